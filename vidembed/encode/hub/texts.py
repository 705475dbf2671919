"""Texts to token ids as a Hugging Face folder's `tokenizer.json` cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, normalizers, processors

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.weights import Weights


class FolderTokenizer:
    """A tokenizer of a fixed length: what is longer is cut, what is shorter is padded.

    lower: lower-case first. ends: put the start and the end token that the folder names around a
    text; a text that is cut keeps them.
    """

    def __init__(self, found: Weights, length: int, *, lower: bool, ends: bool) -> None:
        path = found.side_file("tokenizer.json")
        if path is None:
            raise WeightsError(
                f"{found.folder} has no tokenizer.json, which cuts texts into tokens. Where there "
                f"is a spiece.model or tokenizer.model, transformers makes it of that: "
                f"AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises no narrower one
            raise WeightsError(f"{path} is no file of a tokenizer: {error}") from error
        said = found.config("tokenizer_config.json") or {}
        if lower:
            steps = [normalizers.Lowercase()]
            steps += [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence(steps)
        if ends and ("add_bos_token" in said or "add_eos_token" in said):
            tokenizer.post_processor = _around(tokenizer, said)
        self._ends, self._length = ends, length
        self._pad = _pad_id(tokenizer, said, found)
        self._left = said.get("padding_side") == "left"
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids int64 [n, length], and a mask of that shape: 1 where a token is not padding."""
        ids = np.full((len(texts), self._length), self._pad, np.int64)
        mask = np.zeros_like(ids)
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=self._ends)
        for row, there, encoding in zip(ids, mask, found, strict=True):
            count = len(encoding.ids)
            place = slice(self._length - count, None) if self._left else slice(0, count)
            row[place], there[place] = encoding.ids, 1
        return ids, mask


def _around(tokenizer: Tokenizer, said: dict[str, Any]) -> processors.TemplateProcessing:
    # As transformers does where a folder's file says which ends a text has.
    first, last = (
        _content(said.get(f"{end}_token")) if said.get(f"add_{end}_token") else None
        for end in ("bos", "eos")
    )
    single = [*([first] if first else []), "$A", *([last] if last else [])]
    special = [(t, tokenizer.token_to_id(t)) for t in dict.fromkeys((first, last)) if t]
    return processors.TemplateProcessing(single=single, special_tokens=special)


def _pad_id(tokenizer: Tokenizer, said: dict[str, Any], found: Weights) -> int:
    own = (tokenizer.padding or {}).get("pad_token")
    for token in (_content(said.get("pad_token")), own, "<pad>"):
        number = None if token is None else tokenizer.token_to_id(token)
        if number is not None:
            return int(number)
    raise WeightsError(f"{found.folder} names no pad_token in tokenizer_config.json")


def _content(token: Any) -> str | None:
    # A token is its text, or a dictionary with it.
    return token.get("content") if isinstance(token, dict) else token
