"""tightTransf, loaded: a text and the frames of a clip, together, to one score.

Luo et al., "CLIP4Clip", arXiv 2104.08860, section 3.3 (tight type), github.com/ArrowLuo/CLIP4Clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidembed.encode.base import no_gradients
from vidembed.encode.clip4clip.encoder import Towers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Clips that go through the image tower at once, and pairs that go through the head.
_CLIPS, _PAIRS = {"cpu": 8, "cuda": 64}, {"cpu": 256, "cuda": 8192}

_NO_VECTORS = "tightTransf scores pairs and has no vectors: use score(texts, frames)"


class Reranker(Towers):
    """Scores pairs of text and clip; the higher, the better they fit. It has no vectors."""

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        raise ValueError(_NO_VECTORS)

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        raise ValueError(_NO_VECTORS)

    @property
    def width(self) -> int:
        """Of the features of a frame."""
        return self._model.architecture.dim

    @no_gradients
    def score(
        self,
        texts: Sequence[str],
        frames: NDArray[np.uint8],
        valid: Sequence[int] | None = None,
    ) -> NDArray[np.float32]:
        """Texts and frames uint8 RGB [videos, frames, height, width, 3] of any size to float32
        [texts, videos], logits: comparable within one text's answer only.

        valid: how many leading frames of each clip count, the rest being padding; None: all.
        ValueError, with what was expected and what came, for another dtype or shape.
        """
        features, mask = self.features(frames, valid)
        return self.score_features(self.words(texts), features, mask)

    @no_gradients
    def features(
        self, frames: NDArray[np.uint8], valid: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The part of `score` that the texts do not change: of each frame its features, float32
        [videos, frames, dim], and whether it counts, bool [videos, frames].
        """
        self._check(frames)
        batch, count = frames.shape[:2]
        if count not in self.spec.counts:
            raise ValueError(
                f"{self.spec.name} takes {self.spec.counts} frames a clip, got {count}"
            )
        lengths = [count] * batch if valid is None else list(valid)
        if len(lengths) != batch or not all(0 <= n <= count for n in lengths):
            raise ValueError(f"expected {batch} numbers from 0 to {count} as valid, got {lengths}")
        found = np.zeros((batch, count, self.width), np.float32)
        mask = np.zeros((batch, count), np.bool_)
        step = _CLIPS[self.device.type]
        for at in range(0, batch, step):
            part = slice(at, at + step)
            features, there = self.padded_features(self._prepared(frames[part]), lengths[part])
            found[part], mask[part] = features.cpu().numpy(), there.cpu().numpy()
        return found, mask

    @no_gradients
    def words(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The part of `score` that the clips do not change: float32 [texts, dim]."""
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one text")
        found = np.zeros((len(texts), self.width), np.float32)
        for at in range(0, len(texts), 256):
            part = slice(at, at + 256)
            if texts[part]:
                found[part] = self._model.word_features(self.ids(texts[part])).float().cpu().numpy()
        return found

    @no_gradients
    def score_features(
        self, words: NDArray[np.float32], features: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`words` and `features` of all clips to scores, float32 [texts, videos]."""
        scores = np.zeros((len(words), len(features)), np.float32)
        step = max(1, _PAIRS[self.device.type])
        for at in range(0, len(features), step):
            part = slice(at, at + step)
            clips, there = self._moved(features[part]), self._moved(mask[part])
            some = max(1, step // len(clips))
            for first in range(0, len(words), some):
                asked = self._moved(words[first : first + some])
                found = self._model.score(asked, clips, there)
                scores[first : first + some, part] = found.float().cpu().numpy()
        return scores

    def _moved(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
