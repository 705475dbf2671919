"""Uncased BERT's word pieces, as Hugging Face's BertTokenizer makes them."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VOCABULARY = Path(__file__).parent / "bert_uncased_vocab.txt.gz"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@cache
def _tokenizer() -> Tokenizer:
    pieces = gzip.decompress(VOCABULARY.read_bytes()).decode().rstrip("\n").split("\n")
    ids = {piece: k for k, piece in enumerate(pieces)}
    made = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(
        ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
    )
    made.add_special_tokens(list(_SPECIAL))
    return made


def encode(texts: Sequence[str], most: int) -> NDArray[np.int64]:
    """int64 [texts, tokens of the longest], 0 where there are none: [CLS], pieces, [SEP]; `most`
    tokens of a text, these two included.
    """
    made = _tokenizer()
    made.enable_truncation(most)
    found = [encoding.ids for encoding in made.encode_batch(list(texts))]
    out = np.zeros((len(found), max(map(len, found), default=0)), np.int64)
    for row, ids in zip(out, found, strict=True):
        row[: len(ids)] = ids
    return out
