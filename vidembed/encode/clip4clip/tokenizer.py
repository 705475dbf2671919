"""CLIP's byte-level BPE: texts to token ids, as a function of a list of merges alone.

The full model's merges and the tiny model's go through the same code. Cleaning follows the
reference (openai/CLIP, `simple_tokenizer.py`), which transformers' tokenizer does not do in
full: curly quotes, HTML entities and mojibake give other ids there.
"""

from __future__ import annotations

import gzip
import html
from pathlib import Path
from typing import TYPE_CHECKING

import ftfy
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

START = "<|startoftext|>"
END = "<|endoftext|>"
END_OF_WORD = "</w>"

# CLIP's 48,894 merges, which make its vocabulary of 49,408.
CLIP_MERGES = Path(__file__).with_name("clip_merges.txt.gz")

_PIECES = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def clean(text: str) -> str:
    """Mend encoding errors, undo HTML entities (twice: captions from the web are often escaped
    twice), collapse white space, lower-case.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).lower()


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes, in the order of CLIP's vocabulary.

    Printable bytes come first and stand for themselves; the others follow from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(printable))
    return [chr(byte) for byte in printable] + [chr(0x100 + index) for index in range(others)]


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Cut cleaned text into CLIP's pieces and write each as byte symbols."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def read_merges(path: Path) -> list[str]:
    """Read merges, two symbols a line in order of rank; a name ending in .gz is unpacked."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode("utf-8").splitlines()


class ClipTokenizer:
    """Texts to ids: start, the tokens, end, then padding with 0."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def from_merges(cls, lines: Sequence[str]) -> ClipTokenizer:
        """Build the vocabulary that follows from the merges.

        Ids in order: 256 byte symbols, the same at the end of a word, one for each merge, then
        start and end.
        """
        merges: list[tuple[str, str]] = []
        for number, line in enumerate(lines, start=1):
            pair = line.split(" ")
            if len(pair) != 2 or not all(pair):
                raise ValueError(f"line {number} of the merges is not two symbols: {line!r}")
            merges.append((pair[0], pair[1]))
        symbols = byte_symbols()
        words = symbols + [symbol + END_OF_WORD for symbol in symbols]
        words += [left + right for left, right in merges] + [START, END]
        tokenizer = Tokenizer(
            models.BPE(
                vocab={word: index for index, word in enumerate(words)},
                merges=merges,
                continuing_subword_prefix="",
                end_of_word_suffix=END_OF_WORD,
                fuse_unk=False,
            )
        )
        tokenizer.pre_tokenizer = pre_tokenizer()
        # As in the reference, the two words stand for themselves where a text spells them out.
        tokenizer.add_special_tokens(
            [AddedToken(word, normalized=False, special=True) for word in (START, END)]
        )
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Number of ids, start and end included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def start_id(self) -> int:
        """The last id but one."""
        return self.vocab_size - 2

    @property
    def end_id(self) -> int:
        """The largest id, which is where CLIP's text tower is pooled."""
        return self.vocab_size - 1

    def encode(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """Token ids int64 [n, context_length]. A text too long is cut; its end token stays."""
        if context_length < 2:
            raise ValueError(f"context_length is {context_length}, but start and end take 2")
        out = np.zeros((len(texts), context_length), np.int64)
        encodings = self._tokenizer.encode_batch(
            [clean(text) for text in texts], add_special_tokens=False
        )
        for row, encoding in zip(out, encodings, strict=True):
            ids = [self.start_id, *encoding.ids[: context_length - 2], self.end_id]
            row[: len(ids)] = ids
        return out
