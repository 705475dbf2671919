"""Short captions of synthetic scenes, in varied words.

No two scenes share a caption: the words of an attribute's values are disjoint, and every
template names all five attributes, each in its own place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vidembed.synthetic.scenes import Scene

COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "lemon yellow"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "turquoise", "aqua"),
    "blue": ("blue", "blue", "cobalt"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "white": ("white", "white", "snow white"),
    "black": ("black", "black", "jet black"),
    "gray": ("gray", "grey"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc", "ball"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star", "star", "five pointed star"),
    "cross": ("cross", "cross", "plus sign"),
    "ring": ("ring", "ring", "hoop"),
    "heart": ("heart", "heart", "heart shape"),
    "crescent": ("crescent", "crescent", "crescent moon"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "plain", "solid", "uniform"),
    "striped": ("striped", "striped", "stripy"),
    "checkered": ("checkered", "checkered", "checked", "chequered"),
}
# (third person, participle), so that a template can take either.
MOTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "left": (
        ("moves left", "moving left"),
        ("moves to the left", "moving to the left"),
        ("slides left", "sliding left"),
        ("goes from right to left", "going from right to left"),
    ),
    "right": (
        ("moves right", "moving right"),
        ("moves to the right", "moving to the right"),
        ("slides right", "sliding right"),
        ("goes from left to right", "going from left to right"),
    ),
    "up": (
        ("moves up", "moving up"),
        ("moves upwards", "moving upwards"),
        ("rises", "rising"),
        ("goes from bottom to top", "going from bottom to top"),
    ),
    "down": (
        ("moves down", "moving down"),
        ("moves downwards", "moving downwards"),
        ("falls", "falling"),
        ("goes from top to bottom", "going from top to bottom"),
    ),
    "up_left": (
        ("moves up and to the left", "moving up and to the left"),
        ("drifts diagonally up left", "drifting diagonally up left"),
        ("goes to the upper left", "going to the upper left"),
    ),
    "up_right": (
        ("moves up and to the right", "moving up and to the right"),
        ("drifts diagonally up right", "drifting diagonally up right"),
        ("goes to the upper right", "going to the upper right"),
    ),
    "down_left": (
        ("moves down and to the left", "moving down and to the left"),
        ("drifts diagonally down left", "drifting diagonally down left"),
        ("goes to the lower left", "going to the lower left"),
    ),
    "down_right": (
        ("moves down and to the right", "moving down and to the right"),
        ("drifts diagonally down right", "drifting diagonally down right"),
        ("goes to the lower right", "going to the lower right"),
    ),
    "clockwise": (
        ("circles clockwise", "circling clockwise"),
        ("moves in a circle clockwise", "moving in a circle clockwise"),
        ("travels around clockwise", "travelling around clockwise"),
    ),
    "counter_clockwise": (
        ("circles counterclockwise", "circling counterclockwise"),
        ("moves in a circle counterclockwise", "moving in a circle counterclockwise"),
        ("travels around anticlockwise", "travelling around anticlockwise"),
    ),
    "grows": (
        ("grows", "growing"),
        ("gets bigger", "getting bigger"),
        ("expands", "expanding"),
    ),
    "shrinks": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("contracts", "contracting"),
    ),
    "bounces": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("hops up and down", "hopping up and down"),
    ),
    "sways": (
        ("sways", "swaying"),
        ("swings from side to side", "swinging from side to side"),
        ("sways left and right", "swaying left and right"),
    ),
    "blinks": (
        ("blinks", "blinking"),
        ("flashes on and off", "flashing on and off"),
        ("appears and disappears", "appearing and disappearing"),
    ),
    "still": (
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("stands still", "standing still"),
        ("rests in place", "resting in place"),
    ),
}
ATTRIBUTES = ("color", "shape", "motion", "background", "pattern")
TEMPLATES = (
    "a {color} {shape} {moves} on a {pattern} {background} background",
    "a {color} {shape} {moves} on a {background} {pattern} background",
    "a {color} {shape} {moving} in front of a {pattern} {background} wall",
    "{color} {shape} {moving}, {pattern} {background} background",
    "on a {pattern} {background} background a {color} {shape} {moves}",
    "over a {pattern} {background} backdrop, a {color} {shape} is {moving}",
    "there is a {color} {shape} that {moves} over a {pattern} {background} backdrop",
    "the {shape} is {color} and {moves}, the background is {pattern} {background}",
    "a video of a {color} {shape} {moving} against a {pattern} {background} background",
    "against a {background} {pattern} wall, the {color} {shape} {moves}",
)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene in one sentence that names all its attributes."""
    return _fill(TEMPLATES[int(rng.integers(len(TEMPLATES)))], scene, rng)


def partial_caption(scene: Scene, rng: np.random.Generator) -> tuple[str, frozenset[str]]:
    """Describe some attributes of a scene, as a person searching would, and say which.

    Other scenes may well fit the same words.
    """
    names = frozenset(name for name in ATTRIBUTES if rng.uniform() < 0.6) or frozenset({"motion"})
    adjective = "{color} " if "color" in names else ""
    noun = "{shape}" if "shape" in names else ("shape", "object", "thing")[int(rng.integers(3))]
    verb = (" {moves}", " {moving}", " that {moves}")[int(rng.integers(3))]
    parts = ["a " if rng.uniform() < 0.6 else "", adjective, noun]
    parts.append(verb if "motion" in names else "")
    if names & {"pattern", "background"}:
        parts.append(" on a ")
        parts += [f"{{{name}}} " for name in ("pattern", "background") if name in names]
        parts.append("background")
    return _fill("".join(parts), scene, rng), names


def all_words() -> list[str]:
    """Every caption part there is, for training a tokenizer: no word is missed by chance."""
    tables = (COLOR_WORDS, SHAPE_WORDS, PATTERN_WORDS)
    parts = [word for table in tables for words in table.values() for word in words]
    parts += [form for pairs in MOTION_WORDS.values() for pair in pairs for form in pair]
    parts += ["something", "a shape", "an object", "a thing", "that"]
    return parts + [re.sub(r"{\w+}", " ", template) for template in TEMPLATES]


def _fill(template: str, scene: Scene, rng: np.random.Generator) -> str:
    def choose(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    pairs = MOTION_WORDS[scene.motion]
    moves, moving = pairs[int(rng.integers(len(pairs)))]
    text = template.format(
        color=choose(COLOR_WORDS[scene.color]),
        shape=choose(SHAPE_WORDS[scene.shape]),
        moves=moves,
        moving=moving,
        pattern=choose(PATTERN_WORDS[scene.pattern]),
        background=choose(COLOR_WORDS[scene.background]),
    )
    return re.sub(r"\ba (?=[aeo])", "an ", text)
