"""Videos behind an address: read in place where their index allows it, copied where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.http import FileServer
from tests.helpers.videos import frame_numbers, write_heavy_video, write_video
from vidembed.access import Access
from vidembed.clips import Sampling
from vidembed.decode.sampling import sample
from vidembed.decode.video import Visit, read_frames
from vidembed.errors import ClipError


@pytest.fixture(scope="module")
def server():
    with FileServer() as found:
        yield found


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """20 MB and more of 120 numbered frames, its index in front."""
    return write_heavy_video(tmp_path_factory.mktemp("heavy") / "heavy.mp4", frames=120, gop=10)


def numbers(uri: str, count: int, visit: Visit) -> list[int]:
    def use(video):
        indices = sample(
            Sampling(kind="uniform", count=count), video.facts, 0, video.facts.n_frames
        )
        return frame_numbers(np.stack([frame for _, frame in video.read(indices)]))

    return visit.of(uri, use)


def test_few_frames_of_a_large_file_cost_a_small_part_of_its_bytes(server, heavy):
    uri = server.put("/heavy.mp4", heavy.read_bytes())
    visit = Visit()
    assert numbers(uri, 2, visit) == [0, 119]
    assert heavy.stat().st_size > 15 << 20
    assert visit.fetched < heavy.stat().st_size / 4


def test_an_index_at_the_end_of_the_file_is_found_there(server, heavy, tmp_path):
    path = write_heavy_video(tmp_path / "end.mp4", frames=120, gop=10, index_in_front=False)
    visit = Visit()
    assert numbers(server.put("/end.mp4", path.read_bytes()), 3, visit) == [0, 59, 119]
    assert visit.fetched < path.stat().st_size / 3


@pytest.mark.parametrize("suffix", ["mkv", "ts", "webm", "avi"])
def test_a_container_without_such_an_index_is_copied_and_the_copy_removed(
    suffix, server, tmp_path, monkeypatch
):
    codec = "vp9" if suffix == "webm" else "h264"
    path = write_video(tmp_path / f"a.{suffix}", frames=40, codec=codec)
    uri = server.put(f"/{path.name}", path.read_bytes())
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    frames, _ = read_frames(uri, count=4)
    assert frame_numbers(frames) == [0, 13, 26, 39]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("sampling", ["uniform", "fast", "keyframes"])
@pytest.mark.parametrize("decoder", ["auto", "decord"])
def test_a_remote_file_gives_the_frames_of_the_local_one(sampling, decoder, server, tmp_path):
    path = write_video(tmp_path / "b.mp4", frames=60, b_frames=2)
    uri = server.put("/b.mp4", path.read_bytes())
    here, there = (read_frames(str(u), 6, sampling, decoder) for u in (path, uri))
    assert np.array_equal(here[0], there[0])
    assert np.array_equal(here[1], there[1])


def test_a_server_without_ranges_is_read_as_a_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=20)
    with FileServer(ranges=False) as plain:
        frames, _ = read_frames(plain.put("/a.mp4", path.read_bytes()), count=3)
    assert frame_numbers(frames) == [0, 9, 19]


def test_a_remote_file_cut_off_is_truncated_and_named_without_its_signature(server, heavy):
    uri = server.put("/cut.mp4", heavy.read_bytes()[: 10 << 20])
    with pytest.raises(ClipError) as caught:
        read_frames(uri + "?signature=secret")
    assert caught.value.kind == "Truncated"
    assert uri in caught.value.message
    assert "secret" not in caught.value.message


def test_a_manifest_s_row_may_not_open_a_private_server_nor_what_is_too_large(server, heavy):
    uri = server.put("/heavy.mp4", heavy.read_bytes())
    with pytest.raises(ClipError, match="--allow-root") as caught:
        Visit(access=Access.of("/data")).of(uri, lambda video: None)
    assert caught.value.kind == "Forbidden"
    root = uri.rpartition("/")[0]
    assert numbers(uri, 1, Visit(access=Access.of("/data", [root]))) == [0]
