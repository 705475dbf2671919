"""The run that the tests of the page look at: drawn videos, one of them cut, and odd ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.helpers.page import Video, draw, embed_here
from tests.helpers.videos import write_video
from vidembed.synthetic.scenes import Scene

if TYPE_CHECKING:
    from pathlib import Path

    from vidembed.store.run import Run

REEL = (
    Scene("red", "circle", "left", "white", "plain"),
    Scene("green", "star", "still", "black", "plain"),
    Scene("blue", "square", "down", "yellow", "plain"),
)
SECONDS = 3.0
STAR = "a green star that does not move on a black background"


@dataclass(frozen=True)
class Gallery:
    folder: Path
    run: Run

    def file(self, name: str) -> Path:
        return self.folder / "videos" / name


def make_gallery(folder: Path, *, more: tuple[Video, ...] = ()) -> Gallery:
    """reel (cut into three), heart, ring; an AVI, one that is gone, one that kills its decoder, one
    that is damaged, and one whose row names a text.
    """
    videos = folder / "videos"
    videos.mkdir(parents=True)
    draw(videos / "reel.mp4", REEL, SECONDS)
    draw(videos / "heart.mp4", [Scene("pink", "heart", "bounces", "gray", "striped")])
    draw(videos / "ring.mp4", [Scene("purple", "ring", "grows", "white", "checkered")])
    write_video(videos / "old.avi", codec="mpeg4")
    shutil.copy(videos / "ring.mp4", videos / "crashalways.mp4")
    (videos / "damaged.mp4").write_bytes((videos / "ring.mp4").read_bytes()[:64] + bytes(4000))
    (videos / "secret.txt").write_text("nobody's business")
    rows = [
        Video("reel", str(videos / "reel.mp4"), "a reel", "many", SECONDS),
        Video("heart", str(videos / "heart.mp4"), "a pink heart <b>bounces</b>", "pink"),
        Video("ring", str(videos / "ring.mp4"), "a purple ring grows", "purple"),
        Video("old", str(videos / "old.avi"), "an old container", "gray"),
        Video("gone", str(videos / "gone.mp4"), "its file is gone", "none", decoded=False),
        Video("crash", str(videos / "crashalways.mp4"), "kills its decoder", "none", decoded=False),
        Video("damaged", str(videos / "damaged.mp4"), "is damaged", "none", decoded=False),
        Video("secret", str(videos / "secret.txt"), "names a text", "none", decoded=False),
        *more,
    ]
    return Gallery(folder, embed_here(folder / "run", rows))
