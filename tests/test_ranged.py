"""A remote file is read in place: what it costs, what it survives, what it says."""

from __future__ import annotations

import io
import os
import random
import time
from email.utils import formatdate

import fsspec
import pytest

from tests.helpers.http import SLOW_DOWN, Fault, FaultyProxy, FileServer
from tests.helpers.videos import write_video
from vidembed import sources
from vidembed.errors import ClipError
from vidembed.ranged import NoRangesError, open_ranged
from vidembed.remote import retry

MIB = 1 << 20
PLENTY = 1 << 30


@pytest.fixture(scope="module")
def large() -> bytes:
    """60 MiB and a little, so that no page ends where the file does."""
    return random.Random(7).randbytes(60 * MIB + 12_345)


@pytest.fixture(scope="module")
def server(large):
    with FileServer() as server:
        server.put("/large.mp4", large)
        yield server


@pytest.fixture(autouse=True)
def fresh(server):
    """No fault is left over from the test before."""
    server.faults.clear()
    server.seen.clear()
    server.always = None


@pytest.fixture
def hurried(monkeypatch):
    """The policy with waits that are a tenth."""
    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(first_s=0.05, most_s=0.8))


@pytest.fixture(scope="module")
def large_on_s3(s3, large):
    s3.client().put_object(Bucket="test", Key="ranged/large.mp4", Body=large)
    return "s3://test/ranged/large.mp4"


@pytest.fixture(params=["http", pytest.param("s3", marks=pytest.mark.s3), "memory"])
def address(request, large):
    """The large file at each kind of place."""
    if request.param == "http":
        yield request.getfixturevalue("server").url + "/large.mp4"
    elif request.param == "s3":
        yield request.getfixturevalue("large_on_s3")
    else:
        fsspec.filesystem("memory").pipe_file("/large.mp4", large)
        yield "memory://large.mp4"
        fsspec.filesystem("memory").store.clear()


def opened(uri: str, max_bytes: int = PLENTY):
    return open_ranged(uri, max_bytes=max_bytes)


def failure(call) -> ClipError:
    with pytest.raises(ClipError) as caught:
        call()
    return caught.value


# What is read, and what it costs


def test_both_ends_of_a_large_file_cost_little_more_than_themselves(address, large):
    with opened(address) as file:
        assert file.size == len(large)
        assert file.read(MIB) == large[:MIB]
        file.seek(-MIB, os.SEEK_END)
        assert file.read() == large[-MIB:]
        assert file.fetched < 4 * MIB
        assert file.requests < 12


def test_reading_all_of_it_in_small_pieces_gives_its_bytes_in_few_requests(address, large):
    with opened(address) as file:
        pieces = iter(lambda: file.read(32768), b"")
        assert b"".join(pieces) == large
        assert file.fetched == len(large)
        assert file.requests < 25


def test_an_index_at_the_end_that_was_read_first_is_not_fetched_again(server, large):
    """As MP4 readers do: head, index at the end, all the data, head and index once more."""
    with opened(server.url + "/large.mp4") as file:
        file.read(4096)
        file.seek(-3 * MIB, os.SEEK_END)
        file.read()
        file.seek(0)
        while file.tell() < len(large) - 3 * MIB:
            file.read(MIB)
        before = file.fetched
        file.seek(0)
        assert file.read(MIB) == large[:MIB]
        file.seek(-3 * MIB, os.SEEK_END)
        assert file.read() == large[-3 * MIB :]
        assert file.fetched == before
        assert before < len(large) + MIB


def test_reading_here_and_there_is_right_and_fetches_small_pieces(server, large):
    dice = random.Random(11)
    with opened(server.url + "/large.mp4") as file:
        for _ in range(60):
            at, length = dice.randrange(len(large) + 100), dice.randrange(40_000)
            file.seek(at)
            assert file.read(length) == large[at : at + length]
        assert file.fetched < 60 * 3 * (128 << 10)


def test_two_places_read_in_turn_are_each_read_ahead(server, large):
    """As in a container whose audio and video are not interleaved."""
    with opened(server.url + "/large.mp4") as file:
        for step in range(0, 8 * MIB, 32768):
            for start in (10 * MIB, 40 * MIB):
                file.seek(start + step)
                at = start + step
                assert file.read(32768) == large[at : at + 32768]
        assert file.requests < 20


def test_it_is_a_file_to_whoever_takes_one(server, large):
    file = opened(server.url + "/large.mp4")
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    buffered = io.BufferedReader(file)
    assert buffered.read(10) == large[:10]
    assert buffered.detach() is file
    file.seek(0)
    part = bytearray(10)
    assert file.readinto(part) == 10
    assert part == large[:10]
    assert (file.seek(5), file.seek(5, os.SEEK_CUR), file.tell()) == (5, 10, 10)
    assert file.seek(100, os.SEEK_END) == len(large) + 100
    assert (file.read(1), file.read(0)) == (b"", b"")
    for wrong in ((-1, os.SEEK_SET), (0, 9)):
        with pytest.raises(ValueError, match=r"lies before the beginning|expected 0, 1 or 2"):
            file.seek(*wrong)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_pyav_reads_a_video_through_it(server, tmp_path):
    import av

    path = write_video(tmp_path / "a.mp4", frames=24)
    uri = server.put("/a.mp4", path.read_bytes())
    with opened(uri) as file, av.open(file) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_what_goes_wrong_while_pyav_reads_comes_out_as_it_is(server, large, tmp_path):
    import av

    video = write_video(tmp_path / "a.mp4", frames=24).read_bytes()
    # A box of padding between the index at the end and the beginning.
    padded = (2 * MIB).to_bytes(4, "big") + b"free" + bytes(2 * MIB - 8)
    kinds = [video.index(kind) - 4 for kind in (b"moov", b"mdat")]
    cut = max(kinds)
    uri = server.put("/b.mp4", video[:cut] + padded + video[cut:])
    file = opened(uri)
    server.always = Fault(403)
    assert failure(lambda: av.open(file)).kind == "Forbidden"


@pytest.mark.parametrize("size", [0, 1, 128 << 10, (128 << 10) + 1])
@pytest.mark.parametrize("place", ["http", pytest.param("s3", marks=pytest.mark.s3)])
def test_files_of_any_size_are_read_whole(request, server, large, size, place):
    uri = server.put("/small.mp4", large[:size])
    if place == "s3":
        uri = "s3://test/ranged/small.mp4"
        client = request.getfixturevalue("s3").client()
        client.put_object(Bucket="test", Key="ranged/small.mp4", Body=large[:size])
    with opened(uri) as file:
        assert (file.size, file.read()) == (size, large[:size])


def test_a_server_that_answers_with_less_than_was_asked_for_is_asked_again(large):
    with FileServer(most=100_000) as server, opened(server.put("/a", large[: 2 * MIB])) as file:
        assert file.read() == large[: 2 * MIB]


# What it survives


def test_throttled_twice_it_goes_on(server, large, hurried):
    server.faults = [Fault(503), Fault(429)]
    with opened(server.url + "/large.mp4") as file:
        server.faults = [Fault(500), Fault(502)]
        file.seek(20 * MIB)
        assert file.read(100) == large[20 * MIB :][:100]
        assert file.requests == 6


def test_a_connection_that_breaks_in_the_middle_is_made_again(server, large, hurried):
    with opened(server.url + "/large.mp4") as file:
        server.faults = [Fault(0, after=0), Fault(0, after=70_000)]
        file.seek(20 * MIB)
        assert file.read(100_000) == large[20 * MIB :][:100_000]
        assert file.requests == 4


@pytest.mark.s3
def test_an_s3_server_that_is_busy_or_breaks_off_is_asked_again(
    s3, large_on_s3, large, monkeypatch, hurried
):
    with FaultyProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.faults = [SLOW_DOWN, SLOW_DOWN]
        with opened(large_on_s3) as file:
            assert len(proxy.seen) == 3, "one policy: the client must not try by itself"
            proxy.faults = [SLOW_DOWN, Fault(0, after=50_000)]
            file.seek(20 * MIB)
            assert file.read(100_000) == large[20 * MIB :][:100_000]
            assert file.requests == len(proxy.seen) == 6


def test_the_server_is_given_the_time_that_it_asks_for(server, hurried):
    server.faults = [Fault(503, {"Retry-After": "1"})]
    began = time.monotonic()
    opened(server.url + "/large.mp4").close()
    assert time.monotonic() - began >= 1.0


def test_a_time_that_the_server_names_is_one_of_its_own_clock(server, hurried):
    server.ahead_s = 7 * 3600
    server.faults = [
        Fault(503, {"Retry-After": formatdate(time.time() + 7 * 3600 + 2, usegmt=True)})
    ]
    began = time.monotonic()
    opened(server.url + "/large.mp4").close()
    assert 0.5 < time.monotonic() - began < 20


def test_a_server_that_asks_for_more_time_than_there_is_ends_it_at_once(server):
    server.faults = [Fault(429, {"Retry-After": "3600"})]
    error = failure(lambda: opened(server.url + "/large.mp4"))
    assert (error.kind, len(server.seen)) == ("ReadFailed", 1)
    assert "429 Too Many Requests (1 try)" in error.message


def test_a_server_that_stays_busy_is_given_up_in_bounded_time(server):
    server.always = Fault(503)
    began = time.monotonic()
    error = failure(lambda: opened(server.url + "/large.mp4?signature=secret"))
    assert time.monotonic() - began < 30
    assert error.kind == "ReadFailed"
    assert error.message.startswith(f"{server.url}/large.mp4: the server answered 503")
    assert "5 tries" in error.message
    assert "run again" in error.message
    assert "secret" not in error.message


@pytest.mark.s3
def test_an_s3_server_that_stays_busy_is_given_up_in_bounded_time(s3, monkeypatch, hurried):
    with FaultyProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.always = SLOW_DOWN
        error = failure(lambda: opened("s3://test/ranged/large.mp4"))
        assert (error.kind, len(proxy.seen)) == ("ReadFailed", 5)
        assert "reduce your request rate" in error.message


def test_a_server_that_is_not_there_is_a_failed_read_and_names_no_signature(hurried):
    with FileServer() as gone:
        url = gone.url
    error = failure(lambda: opened(f"{url}/a.mp4?signature=secret"))
    assert error.kind == "ReadFailed"
    assert "secret" not in error.message


# What it says


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "NotFound"), (410, "NotFound"), (401, "Forbidden"), (403, "Forbidden"),
     (400, "ReadFailed"), (501, "ReadFailed")],
)  # fmt: skip
def test_an_answer_that_would_come_again_is_not_asked_for_again(server, status, kind):
    server.always = Fault(status)
    assert failure(lambda: opened(server.url + "/large.mp4")).kind == kind
    assert len(server.seen) == 1


@pytest.mark.s3
def test_what_is_missing_or_refused_on_s3_is_said(s3, monkeypatch):
    assert failure(lambda: opened("s3://test/ranged/none.mp4")).kind == "NotFound"
    assert failure(lambda: opened("s3://nowhere/none.mp4")).kind == "NotFound"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    error = failure(lambda: opened("s3://test/ranged/none.mp4"))
    s3fs.S3FileSystem.clear_instance_cache()
    assert error.kind == "Forbidden"
    assert "AWS_SECRET_ACCESS_KEY" in error.message


def test_a_file_beyond_the_limit_is_refused_before_it_is_fetched(address, large):
    error = failure(lambda: opened(address, max_bytes=len(large) - 1))
    assert error.kind == "TooLarge"
    assert f"{len(large):,} bytes" in error.message
    with opened(address, max_bytes=len(large)) as file:
        assert file.fetched <= 128 << 10


def test_the_name_of_a_file_holds_neither_password_nor_signature(server):
    uri = server.put("/a.mp4", b"x").replace("http://", "http://me:secret@")
    with opened(uri + "?signature=secret") as file:
        assert file.name == f"{server.url}/a.mp4"


@pytest.mark.parametrize("options", [{"ranges": False}, {"sized": False}])
def test_without_ranges_or_size_the_caller_is_told_to_copy(large, tmp_path, options):
    with FileServer(**options) as server:
        uri = server.put("/a.mp4", large[: 3 * MIB])
        with pytest.raises(NoRangesError):
            opened(uri)
        target = tmp_path / "a.mp4"
        assert sources.fetch(uri, str(target), PLENTY) == 3 * MIB
        assert target.read_bytes() == large[: 3 * MIB]


@pytest.mark.parametrize("place", ["http", pytest.param("s3", marks=pytest.mark.s3), "memory"])
def test_a_file_that_changes_while_it_is_read_is_a_failed_read(
    request, server, large, hurried, place
):
    def put(data: bytes) -> str:
        if place == "s3":
            client = request.getfixturevalue("s3").client()
            client.put_object(Bucket="test", Key="ranged/changing.mp4", Body=data)
            return "s3://test/ranged/changing.mp4"
        if place == "memory":
            fsspec.filesystem("memory").pipe_file("/changing.mp4", data)
            return "memory://changing.mp4"
        return server.put("/changing.mp4", data)

    def read_on(now: bytes) -> None:
        with opened(put(large[: 4 * MIB])) as file:
            put(now)
            file.seek(2 * MIB)
            file.read(10)

    for now in (large[MIB : 5 * MIB], large[:MIB]):
        error = failure(lambda now=now: read_on(now))
        assert error.kind == "ReadFailed"
        if place != "memory" or len(now) > 2 * MIB:
            assert "changed while it was read" in error.message


# The whole copy


def test_a_copy_has_all_bytes_in_spite_of_faults_and_begins_no_part_anew(
    server, large, tmp_path, hurried
):
    server.faults = [Fault(503), Fault(0, after=1000), Fault(500), Fault(0, after=5 * MIB)]
    target = tmp_path / "a.mp4"
    assert sources.fetch(server.url + "/large.mp4", str(target), PLENTY) == len(large)
    assert target.read_bytes() == large


def test_a_copy_without_ranges_begins_anew_where_it_breaks_off(large, tmp_path, hurried):
    with FileServer(ranges=False) as server:
        uri = server.put("/a.mp4", large[: 3 * MIB])
        server.faults = [Fault(0, after=MIB), Fault(0, after=MIB), Fault(503)]
        target = tmp_path / "a.mp4"
        sources.fetch(uri, str(target), PLENTY)
        assert target.read_bytes() == large[: 3 * MIB]


@pytest.mark.parametrize("options", [{}, {"ranges": False}, {"sized": False}])
def test_a_copy_is_never_larger_than_the_limit(large, tmp_path, options):
    with FileServer(**options) as server:
        uri = server.put("/a.mp4", large[: 3 * MIB])
        target = tmp_path / "a.mp4"
        assert failure(lambda: sources.fetch(uri, str(target), MIB)).kind == "TooLarge"
        assert target.stat().st_size <= MIB


@pytest.mark.s3
def test_a_copy_from_s3_has_all_bytes(large_on_s3, large, tmp_path):
    target = tmp_path / "a.mp4"
    assert sources.fetch(large_on_s3, str(target), PLENTY) == len(large)
    assert target.read_bytes() == large


def test_a_redirect_is_followed_once_and_again_where_its_target_has_expired(server, large):
    with FileServer() as store:
        store.put("/signed-1", large)
        store.put("/signed-2", large)
        server.redirects["/moved.mp4"] = store.url + "/signed-1"
        with opened(server.url + "/moved.mp4") as file:
            file.seek(20 * MIB)
            file.read(100)
            assert len(server.seen) == 1
            del store.files["/signed-1"]
            server.redirects["/moved.mp4"] = store.url + "/signed-2"
            file.seek(40 * MIB)
            assert file.read(100) == large[40 * MIB :][:100]
            assert len(server.seen) == 2
