"""Whatever is in a file, decoding it ends in time with an answer or a failure that has a name."""

from __future__ import annotations

import pytest

from tests.fuzz import run

CASES = 2000
SEED = 1


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    report = run(tmp_path_factory.mktemp("fuzz"), range(CASES), SEED)
    print("\n".join(report.lines()))
    return report


@pytest.mark.timeout(900)
def test_every_broken_file_gives_an_answer_or_a_named_failure_in_time(report):
    assert sum(report.outcomes.values()) == CASES
    assert report.broken == []


@pytest.mark.timeout(900)
def test_hardly_any_broken_file_costs_the_decoder_its_process(report):
    lost = report.named.get("DecoderCrash", []) + report.named.get("Timeout", [])
    assert len(lost) <= CASES // 500
