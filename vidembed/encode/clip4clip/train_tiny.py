"""Train `clip4clip-tiny` on drawn clips: `python -m vidembed.encode.clip4clip.train_tiny`.

First the image tower learns what single frames show and where (colour, shape, background, place),
from labels: a frame costs an eighth of a clip. Then frame transformer and text tower learn with
CLIP's symmetric contrastive loss from the features of the frames, where batches are large and cost
little, and hold clips that differ in one attribute. Last, everything learns together from pixels.
Classifiers and the like are thrown away.
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

from vidembed.encode.clip4clip.clip import Clip
from vidembed.encode.clip4clip.model import Clip4Clip
from vidembed.encode.clip4clip.tiny_data import (
    ATTRIBUTES,
    CONTEXT,
    FRAMES,
    Batches,
    Pool,
    architecture,
    labels,
    train_merges,
)
from vidembed.encode.clip4clip.tiny_losses import Labels, Places, contrastive
from vidembed.encode.clip4clip.tokenizer import ClipTokenizer
from vidembed.synthetic.captions import caption, partial_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.clip4clip.clip import Clip
    from vidembed.synthetic.scenes import Scene

_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
_STD = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
_MAX_LOGIT_SCALE = float(np.log(100.0))
_SEEN_IN_A_FRAME = ("color", "shape", "background", "pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that training depends on, and the machine's speed where the clock ends it."""

    seed: int = 0
    frame_steps: int = 4000
    label_steps: int = 1500
    head_steps: int = 1500
    steps: int = 600
    """Of the four stages, in this order."""
    pool_clips: int = 28_000
    batch_clips: int = 48
    group: int = 4
    """Clips of a batch that differ from each other in one attribute."""
    batch_frames: int = 64
    batch_features: int = 192
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    partial: float = 0.15
    """Share of captions that leave attributes out."""
    label_weight: float = 0.1
    """Of the classifiers' loss beside the contrastive one; falls to zero in the last stage."""
    place_weight: float = 4.0
    """Of the places' loss beside the frame classifiers'."""
    max_minutes: float = 40.0
    """Schedules end at this time even where the steps are not done."""


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [..., height, width, 3] to float32 [..., 3, height, width]."""
    return (torch.from_numpy(pixels).movedim(-1, -3).float() / 255 - _MEAN) / _STD


def _initialise(clip: Clip) -> None:
    """Weights to start from, by the deviations of CLIP's own training."""
    for tower, projection in (
        (clip.vision_model, clip.visual_projection),
        (clip.text_model, clip.text_projection),
    ):
        width, layers = tower.encoder.width, len(tower.encoder.layers)
        whole = width**-0.5
        residual = whole * (2 * layers) ** -0.5
        deviations = dict.fromkeys(("q_proj", "k_proj", "v_proj", "fc2"), residual)
        deviations |= {"out_proj": whole, "fc1": (2 * width) ** -0.5, "class_embedding": whole}
        embeddings = ("patch_embedding", "position_embedding", "token_embedding")
        deviations |= dict.fromkeys(embeddings, 0.02)
        for name, parameter in tower.named_parameters():
            owner = name.removesuffix(".weight").rpartition(".")[2]
            if owner in deviations:
                nn.init.normal_(parameter, std=deviations[owner])
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(projection.weight, std=whole)


class Trainer:
    """The state of one training."""

    def __init__(self, recipe: Recipe, pool: Pool, merges: Sequence[str]) -> None:
        self.recipe, self.pool = recipe, pool
        self.rng = np.random.default_rng([recipe.seed, 2])
        self.truth = torch.from_numpy(labels(pool.scenes))
        self.places = torch.from_numpy(pool.places)
        self.batches = Batches(pool.scenes, self.rng)
        self.tokenizer = ClipTokenizer.from_merges(merges)
        torch.manual_seed(recipe.seed)
        self.model = Clip4Clip(architecture(self.tokenizer.vocab_size))
        _initialise(self.model.clip)
        self._spread_positions()
        dim = self.model.architecture.dim
        helpers = (Labels(dim, _SEEN_IN_A_FRAME), Places(dim), Labels(dim, tuple(ATTRIBUTES)))
        self.frame_labels, self.frame_places, self.clip_labels = helpers
        self.parameters = [p for module in (self.model, *helpers) for p in module.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )

    def _spread_positions(self) -> None:
        """Start positions at the size of what stands at them.

        With the default deviations, 0.02 in the image tower and 1 in the head, patches drown
        their places, so that place and motion are never learned, and moments drown the frames.
        """
        image = self.model.clip.vision_model.embeddings.position_embedding
        nn.init.normal_(image.weight, std=0.5)
        nn.init.normal_(self.model.frame_position_embeddings.weight, std=0.3)

    def frame_step(self, _progress: float) -> Tensor:
        """Loss of one batch of single frames."""
        size = self.recipe.batch_frames
        clips = self.rng.integers(len(self.pool.scenes), size=size)
        moments = self.rng.integers(FRAMES, size=size)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.frame_features(normalised(self.pool.pixels[clips, moments]))
        return self._frame_loss(features.float(), self.truth[clips], self.places[clips, moments])

    def label_step(self, _progress: float) -> Tensor:
        """Loss of the head alone, from features and labels: motion before there are words."""
        chosen = self.rng.integers(len(self.pool.scenes), size=self.recipe.batch_features)
        with torch.autocast("cpu", torch.bfloat16):
            clips = self.model.pool(self.features[chosen], torch.ones(len(chosen), FRAMES))
        return self.clip_labels.loss(clips.float() * 10, self.truth[chosen])

    def head_step(self, _progress: float) -> Tensor:
        """Loss of one large batch of clips, from the features of their frames."""
        chosen = self.batches.draw(self.recipe.batch_features, 2 * self.recipe.group)
        return self._clip_loss(chosen, self.features[chosen], self.recipe.label_weight)

    def clip_step(self, progress: float) -> Tensor:
        """Loss of one batch of clips, from their pixels."""
        chosen = self.batches.draw(self.recipe.batch_clips, self.recipe.group)
        with torch.autocast("cpu", torch.bfloat16):
            flat = self.model.frame_features(normalised(self.pool.pixels[chosen]).flatten(0, 1))
        flat = flat.float()
        weight = self.recipe.label_weight * (1 - progress)
        truth = self.truth[chosen].repeat_interleave(FRAMES, dim=0)
        helper = self._frame_loss(flat, truth, self.places[chosen].flatten(0, 1))
        frames = flat.view(len(chosen), FRAMES, -1)
        return self._clip_loss(chosen, frames, weight) + weight * helper

    @torch.no_grad()
    def extract(self) -> None:
        """Keep the features of all frames of the pool, for `head_step`."""
        parts = []
        for begin in range(0, len(self.pool.pixels), 64):
            pixels = normalised(self.pool.pixels[begin : begin + 64])
            with torch.autocast("cpu", torch.bfloat16):
                flat = self.model.frame_features(pixels.flatten(0, 1))
            parts.append(flat.float().view(len(pixels), FRAMES, -1))
        self.features = torch.cat(parts)

    def _frame_loss(self, features: Tensor, truth: Tensor, places: Tensor) -> Tensor:
        place = self.frame_places.loss(features, places)
        return self.frame_labels.loss(features, truth) + self.recipe.place_weight * place

    def _clip_loss(self, chosen: NDArray[np.int64], frames: Tensor, label_weight: float) -> Tensor:
        truth = self.truth[chosen]
        texts, excluded = self._captions([self.pool.scenes[i] for i in chosen], truth)
        ids = torch.from_numpy(self.tokenizer.encode(texts, CONTEXT))
        # The text tower looks back only: what follows the longest text changes nothing.
        ids = ids[:, : int((ids == self.tokenizer.end_id).nonzero()[:, 1].max()) + 1]
        with torch.autocast("cpu", torch.bfloat16):
            clips = self.model.pool(frames, torch.ones(frames.shape[:2]))
            words = self.model.encode_tokens(ids)
        clips, words = clips.float(), words.float()
        loss = contrastive(clips, words, self.model.clip.logit_scale, excluded)
        return loss + label_weight * self.clip_labels.loss(clips * 10, truth)

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


def factor(step: int, progress: float, floor: float) -> float:
    """Of the learning rate: linear warm-up over 100 steps, then a cosine from 1 to `floor`."""
    cosine = floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * progress))
    return float(min(1.0, (step + 1) / 100) * cosine)


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
    """Train and write the model into `out`, also after each stage."""
    merges = train_merges()
    name = f"pool-{recipe.seed}-{recipe.pool_clips}.npy"
    trainer = Trainer(recipe, Pool.build(cache / name, recipe.pool_clips, recipe.seed), merges)
    # Step, number of steps, share of the time, and the learning rate's peak and end, as shares.
    stages: tuple[tuple[Callable[[float], Tensor], int, float, tuple[float, float]], ...] = (
        (trainer.frame_step, recipe.frame_steps, 0.42, (1.0, 0.05)),
        (trainer.label_step, recipe.label_steps, 0.10, (1.0, 0.3)),
        (trainer.head_step, recipe.head_steps, 0.18, (1.0, 0.1)),
        (trainer.clip_step, recipe.steps, 0.2, (0.5, 0.0)),
    )
    for take_step, steps, share, (peak, end) in stages:
        if take_step == trainer.label_step:
            trainer.extract()
        began, step = time.monotonic(), 0
        for step, progress in schedule(steps, share * recipe.max_minutes):
            learning_rate = recipe.learning_rate * peak * factor(step, progress, end / peak)
            loss = trainer.update(take_step(progress), learning_rate)
            if step % 50 == 0:
                seconds = time.monotonic() - began
                print(f"{take_step.__name__} {step} {loss:.3f} {seconds:.0f} s", flush=True)
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
