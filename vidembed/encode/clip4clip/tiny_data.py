"""What `clip4clip-tiny` is made of: drawn clips sent through H.264, the network, the vocabulary.

Only combinations that are not held out are drawn.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, models, trainers

from vidembed.clips import Resize
from vidembed.encode.clip4clip.layout import Architecture
from vidembed.encode.clip4clip.tokenizer import (
    END_OF_WORD,
    byte_symbols,
    clean,
    pre_tokenizer,
)
from vidembed.pixels import prepare
from vidembed.synthetic.captions import all_words
from vidembed.synthetic.codec import through_h264
from vidembed.synthetic.corpus import CorpusFormat
from vidembed.synthetic.render import plan, render_at
from vidembed.synthetic.scenes import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    Scene,
    all_scenes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "shape": SHAPES,
    "motion": MOTIONS,
    "background": BACKGROUNDS,
    "pattern": PATTERNS,
}
FRAMES = 8
CONTEXT = 32
SIZE = 64
_REEL = 64


def film(scenes: Sequence[Scene], seed: Sequence[int]) -> NDArray[np.uint8]:
    """Clips as the product would see them: uint8 RGB [n, 8, 64, 64, 3].

    Frames are those of `uniform` sampling from a corpus clip of a random length. Only these are
    drawn, a seventh of the work, and all clips pass through one H.264 stream, because starting
    an encoder costs more than a clip: compression differs a little from a whole file's.
    """
    form = CorpusFormat()
    drawn = []
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng([*seed, index])
        drawn.append(render_at(scene, _times(form, rng), (form.height, form.width), rng))
    decoded = through_h264(np.concatenate(drawn), fps=12, crf=form.crf)
    pixels = prepare(decoded, Resize(short_side=SIZE, crop=SIZE))
    return pixels.reshape(len(scenes), FRAMES, SIZE, SIZE, 3)


def places(scenes: Sequence[Scene], seed: Sequence[int]) -> NDArray[np.float32]:
    """Where the shape is in the frames of `film`: float32 [n, 8, 3].

    x, y and radius in frame heights; the radius is 0 where the shape is not seen.
    """
    form = CorpusFormat()
    out = np.empty((len(scenes), FRAMES, 3), np.float32)
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng([*seed, index])
        take = plan(scene, _times(form, rng), (form.height, form.width), rng)
        path = take.path
        out[index] = np.stack([path.x, path.y, path.scale * take.radius], axis=1)
    return out


def _times(form: CorpusFormat, rng: np.random.Generator) -> NDArray[np.float64]:
    count = round(rng.uniform(*form.seconds) * int(rng.choice(form.fps)))
    indices = np.linspace(0, count - 1, FRAMES).astype(int)
    return indices / (count - 1)


@dataclass(frozen=True)
class Pool:
    """Clips that are drawn once and trained on several times: drawing costs as much as a step."""

    pixels: NDArray[np.uint8]
    """uint8 [clips, 8, 64, 64, 3]; a memory map."""
    scenes: tuple[Scene, ...]
    """One a clip."""
    places: NDArray[np.float32]
    """float32 [clips, 8, 3], see `places`."""

    @classmethod
    def build(cls, file: Path, clips: int, seed: int) -> Pool:
        """Draw a pool into `file`, or take the one that is there if it is of this size.

        Every training combination comes up equally often, to within one.
        """
        train = all_scenes("train")
        rng = np.random.default_rng([seed, 0])
        rounds = [rng.permutation(len(train)) for _ in range(-(-clips // len(train)))]
        scenes = tuple(train[int(i)] for i in np.concatenate(rounds)[:clips])
        shape = (clips, FRAMES, SIZE, SIZE, 3)
        if not file.exists():
            part = file.with_suffix(".part")
            pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
            for begin in range(0, clips, _REEL):
                pixels[begin : begin + _REEL] = film(scenes[begin : begin + _REEL], [seed, begin])
            pixels.flush()
            part.rename(file)
        pixels = np.load(file, mmap_mode="r")
        if pixels.shape != shape:
            raise ValueError(f"{file} holds {pixels.shape}, expected {shape}: delete it")
        reels = [
            places(scenes[begin : begin + _REEL], [seed, begin]) for begin in range(0, clips, _REEL)
        ]
        return cls(pixels, scenes, np.concatenate(reels))


class Batches:
    """Indices into a pool, in groups that share all but one attribute: hard negatives.

    Scenes are distinct within a batch: a clip of the same words would be a false negative.
    """

    def __init__(self, scenes: Sequence[Scene], rng: np.random.Generator) -> None:
        self._scenes = tuple(scenes)
        self._rng = rng
        self._clips: dict[Scene, list[int]] = defaultdict(list)
        for index, scene in enumerate(scenes):
            self._clips[scene].append(index)

    def draw(self, size: int, group: int) -> NDArray[np.int64]:
        """Indices int64 [size] of distinct scenes, in groups of up to `group` neighbours.

        Half of the neighbours differ in their motion, which is what is hardest to see.
        """
        chosen: dict[Scene, int] = {}
        while len(chosen) < size:
            base = self._scenes[int(self._rng.integers(len(self._scenes)))]
            self._add(base, chosen)
            for _ in range(group - 1):
                self._add(self._neighbour(base), chosen)
        return np.array(list(chosen.values())[:size], np.int64)

    def _add(self, scene: Scene | None, chosen: dict[Scene, int]) -> None:
        clips = self._clips.get(scene, []) if scene else []
        if scene and clips:
            chosen[scene] = clips[int(self._rng.integers(len(clips)))]

    def _neighbour(self, scene: Scene) -> Scene | None:
        names = list(ATTRIBUTES)
        name = names[int(self._rng.integers(len(names)))] if self._rng.uniform() < 0.5 else "motion"
        values = ATTRIBUTES[name]
        changed: dict[str, str] = {name: values[int(self._rng.integers(len(values)))]}
        if changed.get("color", scene.color) == changed.get("background", scene.background):
            return None
        return replace(scene, **changed)


def labels(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Attribute values as numbers: int64 [n, 5], columns in the order of `ATTRIBUTES`."""
    rows = [[v.index(getattr(s, name)) for name, v in ATTRIBUTES.items()] for s in scenes]
    return np.array(rows, np.int64)


def architecture(vocabulary: int) -> Architecture:
    """The network: CLIP's towers and CLIP4Clip's frame transformer, all small."""

    def tower(width: int, layers: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": width * 4,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "hidden_act": "quick_gelu",
        }

    text = tower(128, 3) | {
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0,
    }
    vision = tower(192, 4) | {"image_size": SIZE, "patch_size": 16}
    clip = {"projection_dim": 128, "text_config": text, "vision_config": vision}
    return Architecture(clip=clip, head="seqTransf", head_layers=2)


def train_merges() -> list[str]:
    """Learn merges until every word of the captions is one token."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    tokenizer.pre_tokenizer = pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        initial_alphabet=byte_symbols(),
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    tokenizer.train_from_iterator([clean(words) for words in all_words()], trainer)
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) for pair in merges]
