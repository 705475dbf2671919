"""Captions that no tokenizer likes: id for id those of OpenAI's code and of CLIP4Clip's loaders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.goldens.captions import CAPTIONS
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, read_merges


@pytest.fixture(scope="module")
def goldens():
    return np.load(Path(__file__).parent / "goldens" / "clip_tokens.npz")


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer.from_merges(read_merges(CLIP_MERGES))


@pytest.mark.parametrize("name", ["openai_77", "clip4clip_32"])
def test_ids_are_the_reference_s(name, tokenizer, goldens):
    expected = goldens[name].astype(np.int64)
    found = tokenizer.encode(CAPTIONS, expected.shape[1])
    wrong = [CAPTIONS[k] for k in np.flatnonzero((found != expected).any(axis=1))]
    assert wrong == []


def test_what_follows_the_end_is_zero(goldens):
    ids = goldens["clip4clip_32"]
    ends = (ids == 49407).argmax(axis=1)
    plain = ["<|endoftext|>" not in caption.lower() for caption in CAPTIONS]
    for row, end in zip(ids[plain], ends[plain], strict=True):
        assert row[0] == 49406
        assert not row[end + 1 :].any()


def test_there_are_200_captions_and_their_ids_differ(goldens):
    assert len(CAPTIONS) == len(set(CAPTIONS)) == 200
    assert len(np.unique(goldens["openai_77"], axis=0)) > 180
