"""Small files on an object store that throttles, drops and cuts: each call gets by."""

from __future__ import annotations

import pytest
import s3fs

from tests.helpers.http import SLOW_DOWN, FaultyProxy
from tests.helpers.rough import RoughProxy, Weather
from tests.helpers.runs import good, vectors, write_run
from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.remote import retry
from vidembed.store.run import Run

pytestmark = [pytest.mark.s3]

BAD = Weather(slow_down=0.15, dropped=0.1, cut=0.1, late=0.1, late_s=0.1)


@pytest.fixture
def proxied(s3, monkeypatch):
    """Makes a proxy the way to the store."""
    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(tries=12, first_s=0.02, most_s=0.1))

    def through(proxy) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()

    yield through
    s3fs.S3FileSystem.clear_instance_cache()


def test_files_are_written_read_listed_and_removed_whatever_goes_wrong_on_the_way(s3, proxied):
    folder = "s3://test/bad-day"
    with RoughProxy(s3.endpoint, BAD, seed=3) as proxy:
        proxied(proxy)
        for k in range(20):
            data = bytes([k]) * (1000 + 300_000 * (k % 3))
            sources.write_whole(f"{folder}/{k:02}.in", data)
            assert sources.read_whole(f"{folder}/{k:02}.in") == data
            with sources.open_binary(f"{folder}/{k:02}.in") as file:
                assert file.read() == data
        names = [f"{folder}/{k:02}.in" for k in range(20)]
        for _ in range(10):
            assert sources.list_folder(folder, ".in") == names
            assert list(sources.walk_files(folder)) == names
            assert sources.is_folder(folder)
            assert not sources.exists(f"{folder}/none.in")
            with pytest.raises(FileNotFoundError):
                sources.read_whole(f"{folder}/none.in")
            with pytest.raises(FileNotFoundError):
                sources.open_binary(f"{folder}/none.in")
        for name in names[:10]:
            sources.remove(name)
            assert not sources.exists(name)
        sources.remove(folder)
        assert sources.list_folder(folder, ".in") == []
    assert min(proxy.counts[kind] for kind in ("slow_down", "dropped", "cut", "late")) > 5


def test_a_run_is_committed_and_read_whole(s3, proxied):
    rows = [good(f"v{k:03}", [k, 1, 2, 3]) for k in range(60)]
    with RoughProxy(s3.endpoint, BAD, seed=4) as proxy:
        proxied(proxy)
        run = write_run("s3://test/bad-run", rows[:20])
        for at in (20, 40):
            run.commit(vectors(rows[at : at + 20]))
        again = Run.open(run.uri)
        assert again.read().sort_by("id")["id"].to_pylist() == [row["id"] for row in rows]
        run.delete_contents()
        assert not sources.exists(f"{run.uri}/run.json")


def test_a_store_that_stays_busy_is_said_so_and_its_parts_are_not_called_damaged(
    s3, proxied, monkeypatch
):
    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(tries=2, first_s=0.02))
    run = write_run("s3://test/busy-run", [good("v", [1, 2, 3, 4])])
    (part,) = run.parts()
    with FaultyProxy(s3.endpoint) as proxy:
        proxied(proxy)
        proxy.always = SLOW_DOWN
        for call in (
            lambda: run.read_part(part),
            lambda: run.parts(),
            lambda: sources.write_whole(f"{run.uri}/x", b"x"),
        ):
            with pytest.raises(ConfigError, match=r"request rate.*2 tries") as raised:
                call()
            assert "damaged" not in str(raised.value)
