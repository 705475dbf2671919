"""The promises of docs/guarantees.md, in a short form: `python -m tests.chaos` has the long one."""

from __future__ import annotations

import random
import re

import pytest

from tests.chaos import disk, driver, hand, node, workers
from tests.chaos import milvus as milvus_dies
from tests.chaos import s3 as bad_day
from tests.chaos.trial import Trial
from tests.conftest import ROOT
from tests.helpers.milvus_server import MilvusServer
from tests.helpers.rough import Weather

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SEED = 1


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    return Trial(tmp_path_factory.mktemp("chaos"))


@pytest.fixture(scope="module")
def own_milvus(tmp_path_factory):
    """A Milvus server that may be killed."""
    with MilvusServer(tmp_path_factory.mktemp("own-milvus"), session_s=5) as server:
        yield server


@pytest.mark.milvus
def test_a_driver_that_is_killed_again_and_again_leaves_each_segment_once(trial, milvus):
    driver.scenario(trial, 3, SEED, milvus.uri)


def test_a_run_outlives_its_decoders_and_encoders(trial):
    workers.scenario(trial, 3, SEED)


def test_a_run_outlives_a_node_of_its_cluster(trial):
    node.scenario(trial, 1, SEED)


@pytest.mark.milvus
def test_a_run_outlives_a_milvus_that_is_killed_and_comes_back(trial, own_milvus):
    milvus_dies.comes_back(trial, 1, SEED, own_milvus, away_s=5.0)


@pytest.mark.milvus
def test_without_milvus_the_vectors_are_in_parquet_and_the_command_that_is_said_heals_it(
    trial, own_milvus
):
    milvus_dies.is_gone(trial, 1, SEED, own_milvus)


@pytest.mark.s3
def test_a_run_on_an_object_store_that_throttles_drops_and_cuts_has_each_segment_once(trial, s3):
    weather = Weather(slow_down=0.05, dropped=0.04, cut=0.04, late=0.1, late_s=0.5)
    bad_day.scenario(trial, 1, SEED, s3, weather)


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_once_there_is_room(trial):
    try:
        disk.scenario(trial, 1, SEED)
    except disk.CannotMountError as error:
        pytest.skip(str(error))


def test_parts_that_are_deleted_or_damaged_are_said_and_done_again_while_the_clock_jumps(trial):
    trial.expected  # noqa: B018
    hand.deleted_and_damaged(trial, random.Random(SEED))


@pytest.mark.milvus
def test_damaged_vectors_are_named_wherever_they_are_read(trial):
    for seed in range(5):
        hand.damaged_vectors(trial, random.Random(seed))


def test_a_manifest_that_has_a_row_twice_is_refused_and_names_both(trial):
    hand.a_row_twice(trial, random.Random(SEED))


def test_every_test_that_the_page_of_guarantees_names_is_there():
    page = (ROOT / "docs" / "guarantees.md").read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 20
    assert not {name for name in named if f"\ndef {name}(" not in code}
