"""One job at a time writes a run: locks on a file system, leases on an object store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.store.lease import Pace, held

CLOCK = Path(__file__).parent / "helpers" / "clock"
QUICK = Pace(renew_s=0.3, free_s=1.5, settle_s=0.3)
HOLD = """
import sys, time
from vidembed.store.lease import Pace, held
with held(sys.argv[1], print, Pace(renew_s=0.3, free_s=1.5, settle_s=0.3)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Starts processes that hold a run, and kills what is left of them."""
    started = []

    def hold(uri) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, uri], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def never(sentence: str) -> None:
    raise AssertionError(sentence)


def test_a_run_that_another_process_writes_is_refused_and_the_message_names_the_process(
    tmp_path, holder
):
    other = holder(str(tmp_path / "run"))
    with (
        pytest.raises(ConfigError, match=f"process {other.pid} on .*one job at a time"),
        held(str(tmp_path / "run"), never),
    ):
        pass


def test_a_process_that_is_killed_gives_its_run_free_at_once(tmp_path, holder):
    other = holder(str(tmp_path / "run"))
    other.kill()
    other.wait()
    with held(str(tmp_path / "run"), never):
        pass


def test_a_run_is_free_again_after_its_job_also_after_one_that_failed(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), held(str(tmp_path), never):
            raise ZeroDivisionError


def test_what_a_holder_starts_does_not_hold_the_run_longer_than_the_holder(tmp_path):
    code = "import sys; sys.stdin.read()"
    with held(str(tmp_path), never):
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, close_fds=False
        )
    with held(str(tmp_path), never):
        pass
    child.communicate()


@pytest.mark.s3
def test_a_lease_that_is_renewed_is_respected(s3, holder):
    run = "s3://test/leases/renewed"
    holder(run)
    said = []
    with pytest.raises(ConfigError, match="one job at a time"), held(run, said.append, QUICK):
        pass
    assert "sign of life" in said[0]


@pytest.mark.s3
def test_a_lease_whose_holder_was_killed_is_taken_over_after_a_while(s3, holder):
    run = "s3://test/leases/killed"
    other = holder(run)
    other.kill()
    began = time.monotonic()
    with held(run, lambda _: None, QUICK):
        assert time.monotonic() - began >= QUICK.free_s
        time.sleep(3 * QUICK.renew_s)
    assert not sources.exists(f"{run}/lease.json")


@pytest.mark.s3
def test_of_two_that_find_an_object_store_s_run_free_at_once_one_gets_it(s3):
    run = "s3://test/leases/race"
    got, refused = [], []
    start = threading.Barrier(3)

    def compete() -> None:
        start.wait()
        try:
            with held(run, lambda _: None, QUICK):
                got.append(1)
                time.sleep(2.5)
        except ConfigError:
            refused.append(1)

    threads = [threading.Thread(target=compete) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 2)


@pytest.mark.s3
def test_a_lease_is_kept_and_respected_while_clocks_jump(s3, holder, tmp_path, monkeypatch):
    run, clock, true = "s3://test/leases/clocks", tmp_path / "clock", time.time
    monkeypatch.setenv("JUMPING_CLOCK", str(clock))
    monkeypatch.setenv("PYTHONPATH", str(CLOCK), prepend=os.pathsep)
    other = holder(run)
    for theirs, ours in ((-7, 3), (9, -5)):
        clock.write_text(str(3600 * theirs))
        monkeypatch.setattr(time, "time", lambda ours=ours: true() + 3600 * ours)
        with (
            pytest.raises(ConfigError, match="one job at a time"),
            held(run, lambda _: None, QUICK),
        ):
            pass
    other.kill()
    began = time.monotonic()
    with held(run, lambda _: None, QUICK):
        assert QUICK.free_s <= time.monotonic() - began < 60


@pytest.mark.s3
def test_a_damaged_lease_is_one_that_nobody_renews(s3):
    run = "s3://test/leases/damaged"
    sources.write_whole(f"{run}/lease.json", b"{half")
    with held(run, lambda _: None, QUICK):
        pass
