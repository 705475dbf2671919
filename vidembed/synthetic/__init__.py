"""A captioned video corpus that the program draws itself: coloured shapes that move.

For trying and testing the system where no real footage is at hand. Everything is a function of a
seed; importing this package loads numpy and nothing heavier.
"""

from __future__ import annotations

from vidembed.synthetic.captions import caption
from vidembed.synthetic.corpus import write_corpus
from vidembed.synthetic.render import render
from vidembed.synthetic.scenes import Scene, is_held_out, sample_scenes

__all__ = ["Scene", "caption", "is_held_out", "render", "sample_scenes", "write_corpus"]
