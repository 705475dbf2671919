"""The words that S3D MIL-NCE knows: `s3d_dict.npy`, beside its weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from vidembed.encode.weights import Weights

# The name beside the released weights, and that of the training repository.
NAMES = ("s3d_dict.npy", "dict.npy")
ADDRESS = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/s3d_dict.npy"
_WORD = re.compile(r"[\w']+")


class Dictionary:
    """Word to row of the table of words; row 0 is the padding's."""

    def __init__(self, words: list[str]) -> None:
        self._rows = {word: k + 1 for k, word in enumerate(words)}

    def encode(self, text: str, length: int) -> list[int]:
        """`length` rows: of the words that are known, in their order, then 0."""
        rows = [self._rows[word] for word in _WORD.findall(text.lower()) if word in self._rows]
        return (rows + [0] * length)[:length]


def beside(weights: Weights) -> Path | None:
    """The dictionary's file, None where there is none."""
    places = (weights.side_file(name) for name in NAMES)
    return next((place for place in places if place is not None), None)


def read(weights: Weights, rows: int) -> Dictionary:
    """The dictionary of these weights, whose table has so many rows. Raises WeightsError."""
    path = beside(weights)
    if path is None:
        raise WeightsError(
            f"texts need the dictionary of s3d_milnce, and there is no {NAMES[0]} in "
            f"{weights.folder}: put it there, beside {weights.file.name} (wget {ADDRESS}). "
            f"Videos are encoded without it"
        )
    try:
        words = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise WeightsError(f"{path} is no array of words: {error}") from error
    if not isinstance(words, np.ndarray) or words.ndim != 1 or words.dtype.kind != "U":
        got = f"{getattr(words, 'dtype', type(words))} {getattr(words, 'shape', '')}"
        raise WeightsError(f"{path} is no array of words: expected unicode [n], got {got}")
    if len(words) >= rows:
        raise WeightsError(
            f"{path} has {len(words)} words, and the weights' table has {rows} rows, the first "
            f"of them for padding: it is another model's dictionary"
        )
    return Dictionary(words.tolist())
