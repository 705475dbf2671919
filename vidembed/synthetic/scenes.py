"""What can be seen in a synthetic clip: the vocabulary, and its split by combination."""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np

COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "white",
    "black",
)
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
# Rotation is not among them: a turning circle cannot be told from one that rests.
MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "up_left",
    "up_right",
    "down_left",
    "down_right",
    "clockwise",
    "counter_clockwise",
    "grows",
    "shrinks",
    "bounces",
    "sways",
    "blinks",
    "still",
)
BACKGROUNDS = ("black", "white", "gray", "red", "green", "blue", "yellow", "purple")
PATTERNS = ("plain", "striped", "checkered")

Split = Literal["train", "held_out", "all"]

HELD_OUT_ONE_IN = 10


@dataclass(frozen=True, slots=True)
class Scene:
    """One combination of attributes. Where, how fast and how large is left to the renderer."""

    color: str
    """Of the shape; one of `COLORS`, never equal to `background`."""
    shape: str
    motion: str
    background: str
    """Its dominant colour; one of `BACKGROUNDS`."""
    pattern: str
    """Of the background: one of `PATTERNS`, in two shades of its colour."""

    def __post_init__(self) -> None:
        allowed = (COLORS, SHAPES, MOTIONS, BACKGROUNDS, PATTERNS)
        for value, values in zip(astuple(self), allowed, strict=True):
            if value not in values:
                raise ValueError(f"{value!r} is none of {', '.join(values)}")
        if self.color == self.background:
            raise ValueError(f"a {self.color} shape cannot be seen on {self.background}")


def is_held_out(scene: Scene) -> bool:
    """Whether no model of this project may be trained on this combination (one in ten).

    A hash of the words and not of Python's objects: the same on every machine, for ever.
    """
    digest = hashlib.sha256("|".join(astuple(scene)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@functools.cache
def all_scenes(split: Split = "all") -> tuple[Scene, ...]:
    """Every combination of a split, in one fixed order."""
    if split not in ("train", "held_out", "all"):
        raise ValueError(f"split {split!r} is none of train, held_out, all")
    combinations = itertools.product(COLORS, SHAPES, MOTIONS, BACKGROUNDS, PATTERNS)
    scenes = (Scene(*words) for words in combinations if words[0] != words[3])
    return tuple(s for s in scenes if split == "all" or is_held_out(s) == (split == "held_out"))


def sample_scenes(
    count: int, seed: int, split: Split = "held_out", *, distinct: bool = True
) -> list[Scene]:
    """Draw `count` scenes of a split, uniformly; with `distinct`, none twice."""
    scenes = all_scenes(split)
    if distinct and count > len(scenes):
        raise ValueError(f"asked for {count} distinct scenes, split {split} has {len(scenes)}")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(scenes), size=count, replace=not distinct)
    return [scenes[int(index)] for index in chosen]
