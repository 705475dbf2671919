"""Train `clip4clip-tiny` on drawn clips: `python -m vidembed.encode.clip4clip.train_tiny`.

First the image tower learns what single frames show (colour, shape, background), from labels:
a frame costs an eighth of a clip. Then everything learns from clips and captions with CLIP's
symmetric contrastive loss, where batches hold clips that differ in one attribute; the labels
stay as a helper whose weight falls to zero. The classifiers are thrown away.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vidembed.encode.clip4clip.layout import Architecture
from vidembed.encode.clip4clip.model import Clip4Clip
from vidembed.encode.clip4clip.tiny_data import (
    ATTRIBUTES,
    FRAMES,
    SIZE,
    Batches,
    Pool,
    labels,
    train_merges,
)
from vidembed.encode.clip4clip.tokenizer import ClipTokenizer
from vidembed.synthetic.captions import caption, partial_caption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.synthetic.scenes import Scene

CONTEXT = 32
_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
_STD = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
_MAX_LOGIT_SCALE = float(np.log(100.0))
_SEEN_IN_A_FRAME = ("color", "shape", "background", "pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that training depends on, and the machine's speed where the clock ends it."""

    seed: int = 0
    steps: int = 2000
    """Of the contrastive stage."""
    frame_steps: int = 2500
    """Of the stage before it, on single frames."""
    pool_clips: int = 28_000
    batch_clips: int = 48
    group: int = 4
    """Clips of a batch that differ from each other in one attribute."""
    batch_frames: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    partial: float = 0.15
    """Share of captions that leave attributes out."""
    label_weight: float = 0.3
    """Of the classifiers' loss at the start of the contrastive stage."""
    max_minutes: float = 40.0
    """Schedules end at this time even where the steps are not done."""


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


class Labels(nn.Module):
    """Classifiers of the attributes, one linear layer each."""

    def __init__(self, dim: int, names: Sequence[str]) -> None:
        super().__init__()
        self.columns = [list(ATTRIBUTES).index(name) for name in names]
        self.layers = nn.ModuleList(nn.Linear(dim, len(ATTRIBUTES[name])) for name in names)

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Mean cross-entropy; `features` [n, dim], `truth` [n, 5]."""
        parts = [
            nn.functional.cross_entropy(layer(features), truth[:, column])
            for layer, column in zip(self.layers, self.columns, strict=True)
        ]
        return torch.stack(parts).mean()


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [..., height, width, 3] to float32 [..., 3, height, width]."""
    return (torch.from_numpy(pixels).movedim(-1, -3).float() / 255 - _MEAN) / _STD


def contrastive(clips: Tensor, texts: Tensor, scale: Tensor, excluded: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors [n, dim]; row i of each belongs together.

    `excluded` bool [texts, clips]: pairs that fit as well without belonging together.
    """
    logits = (scale.exp() * texts @ clips.T).masked_fill(excluded, float("-inf"))
    own = torch.arange(len(logits))
    forward = nn.functional.cross_entropy(logits, own)
    return (forward + nn.functional.cross_entropy(logits.T, own)) / 2


class Trainer:
    """The state of one training."""

    def __init__(self, recipe: Recipe, pool: Pool, merges: Sequence[str]) -> None:
        self.recipe, self.pool = recipe, pool
        self.rng = np.random.default_rng([recipe.seed, 2])
        self.truth = torch.from_numpy(labels(pool.scenes))
        self.batches = Batches(pool.scenes, self.rng)
        self.tokenizer = ClipTokenizer.from_merges(merges)
        torch.manual_seed(recipe.seed)
        self.model = Clip4Clip(architecture(self.tokenizer.vocab_size))
        # The default deviation of 1 would drown what the frames show.
        nn.init.normal_(self.model.frame_position_embeddings.weight, std=0.3)
        dim = self.model.architecture.dim
        self.frame_labels = Labels(dim, _SEEN_IN_A_FRAME)
        self.clip_labels = Labels(dim, tuple(ATTRIBUTES))
        parameters = [
            *self.model.parameters(),
            *self.frame_labels.parameters(),
            *self.clip_labels.parameters(),
        ]
        self.parameters = parameters
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )

    def frame_step(self) -> Tensor:
        """Loss of one batch of single frames."""
        size = self.recipe.batch_frames
        clips = self.rng.integers(len(self.pool.scenes), size=size)
        pixels = self.pool.pixels[clips, self.rng.integers(FRAMES, size=size)]
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.frame_features(normalised(pixels))
        return self.frame_labels.loss(features.float(), self.truth[clips])

    def clip_step(self, progress: float) -> Tensor:
        """Loss of one batch of clips and captions."""
        recipe = self.recipe
        chosen = self.batches.draw(recipe.batch_clips, recipe.group)
        truth = self.truth[chosen]
        texts, excluded = self._captions([self.pool.scenes[i] for i in chosen], truth)
        ids = torch.from_numpy(self.tokenizer.encode(texts, CONTEXT))
        pixels = normalised(self.pool.pixels[chosen])
        count = len(chosen)
        with torch.autocast("cpu", torch.bfloat16):
            frames = self.model.frame_features(pixels.flatten(0, 1))
            clips = self.model.pool(frames.view(count, FRAMES, -1), torch.ones(count, FRAMES))
            words = self.model.encode_tokens(ids)
        clips, words = clips.float(), words.float()
        loss = contrastive(clips, words, self.model.clip.logit_scale, excluded)
        helper = self.frame_labels.loss(frames.float(), truth.repeat_interleave(FRAMES, dim=0))
        helper = helper + self.clip_labels.loss(clips * 10, truth)
        return loss + recipe.label_weight * (1 - progress) * helper

    def _captions(self, scenes: Sequence[Scene], truth: Tensor) -> tuple[list[str], Tensor]:
        """Captions, and which other clips of the batch each would fit as well."""
        texts, named = [], torch.ones(len(scenes), len(ATTRIBUTES), dtype=torch.bool)
        for row, scene in zip(named, scenes, strict=True):
            text, names = caption(scene, self.rng), frozenset(ATTRIBUTES)
            if self.rng.uniform() < self.recipe.partial:
                text, names = partial_caption(scene, self.rng)
            texts.append(text)
            row[:] = torch.tensor([name in names for name in ATTRIBUTES])
        same = truth[:, None, :] == truth[None, :, :]
        fits = (same | ~named[:, None, :]).all(dim=-1)
        return texts, fits & ~torch.eye(len(scenes), dtype=torch.bool)

    def update(self, loss: Tensor, learning_rate: float) -> float:
        """One step of the optimizer; returns the loss as a number."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.clip.logit_scale.clamp_(max=_MAX_LOGIT_SCALE)
        return loss.item()


def schedule(steps: int, minutes: float) -> Iterator[tuple[int, float]]:
    """Step number and progress 0..1, by steps or by the clock, whichever is further."""
    began = time.monotonic()
    for step in range(steps):
        progress = max(step / steps, (time.monotonic() - began) / (60 * minutes))
        if progress >= 1:
            return
        yield step, progress


def rate(recipe: Recipe, step: int, progress: float, floor: float) -> float:
    """Linear warm-up over 100 steps, then a cosine from the peak to `floor` of it."""
    cosine = floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * progress))
    return float(recipe.learning_rate * min(1.0, (step + 1) / 100) * cosine)


def save(trainer: Trainer, merges: Sequence[str], steps: int, out: Path) -> None:
    """Write the model as the encoder loads it; classifiers are left out."""
    out.mkdir(parents=True, exist_ok=True)
    state = trainer.model.state_dict()
    tensors = {k.removeprefix("clip."): v.half().contiguous() for k, v in state.items()}
    (out / "model.safetensors").write_bytes(to_bytes(tensors, metadata={"format": "pt"}))
    network = trainer.model.architecture
    own = {
        "head": network.head,
        "head_layers": network.head_layers,
        "frames": FRAMES,
        "sampling": "uniform",
        "steps": steps,
        "recipe": asdict(trainer.recipe),
    }
    config = {"model_type": "clip", **network.clip, "vidembed": own}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")


def train(recipe: Recipe, out: Path, cache: Path) -> None:
    """Train and write the model into `out`, also every few minutes on the way."""
    merges = train_merges()
    name = f"pool-{recipe.seed}-{recipe.pool_clips}.npy"
    trainer = Trainer(recipe, Pool.build(cache / name, recipe.pool_clips, recipe.seed), merges)
    began = saved = time.monotonic()
    for step, progress in schedule(recipe.frame_steps, recipe.max_minutes / 4):
        loss = trainer.update(trainer.frame_step(), rate(recipe, step, progress, floor=0.3))
        if step % 100 == 0:
            print(f"frames {step} loss {loss:.3f} {time.monotonic() - began:.0f} s", flush=True)
    save(trainer, merges, 0, out)
    left = recipe.max_minutes - (time.monotonic() - began) / 60
    step = 0
    for step, progress in schedule(recipe.steps, left):
        loss = trainer.update(trainer.clip_step(progress), rate(recipe, step, progress, floor=0.0))
        if step % 50 == 0:
            print(f"clips {step} loss {loss:.3f} {time.monotonic() - began:.0f} s", flush=True)
        if time.monotonic() - saved > 180:
            save(trainer, merges, step + 1, out)
            saved = time.monotonic()
    save(trainer, merges, step + 1, out)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--cache", type=Path, help="folder for drawn clips; default: --out")
    default = Recipe()
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-minutes", type=float, default=default.max_minutes)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe(seed=args.seed, steps=args.steps, max_minutes=args.max_minutes)
    cache = args.cache or args.out
    cache.mkdir(parents=True, exist_ok=True)
    train(recipe, args.out, cache)


if __name__ == "__main__":
    main()
