"""Ids of the captions by OpenAI's tokenizer, and as CLIP4Clip's data loaders make them of it."""

from __future__ import annotations

import numpy as np

from tests.goldens.captions import CAPTIONS
from tests.goldens.oracles.shim import torchvision  # noqa: F401 - before what needs it

import clip  # isort: skip
from towhee.models.clip.simple_tokenizer import SimpleTokenizer  # isort: skip
from towhee.models.clip4clip.utils import convert_tokens_to_id  # isort: skip


def make() -> dict[str, dict[str, np.ndarray]]:
    tokenizer = SimpleTokenizer()
    words = [convert_tokens_to_id(tokenizer, text, max_words=32)[0] for text in CAPTIONS]
    return {
        "clip_tokens": {
            "openai_77": clip.tokenize(CAPTIONS, truncate=True).numpy().astype(np.uint16),
            "clip4clip_32": np.stack(words).astype(np.uint16),
        }
    }
