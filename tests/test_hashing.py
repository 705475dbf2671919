"""Ids as numbers: equal for equal ids however they are cut, other ones for all others, in order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vidembed import sources
from vidembed.hashing import hash_ids, order_of, repeated
from vidembed.manifest import _resolved
from vidembed.store.done import contains, ordered

IDS = ["", "a", "ab", "abcdefgh", "abcdefgh\0", "abcdefghi", "é" * 9, "x" * 100, "x" * 101]


def numbers(ids, kind=None):
    return hash_ids(pa.chunked_array([pa.array(ids, kind or pa.string())]))


def test_a_million_ids_that_differ_in_little_have_a_million_numbers_in_each_half():
    found = numbers([f"folder/{k % 7}/video-{k:09d}.mp4" for k in range(1_000_000)])
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == 1_000_000
    ones = np.unpackbits(np.ascontiguousarray(found).view(np.uint8), axis=1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 0.005


def test_ids_that_differ_in_one_bit_of_two_words_differ():
    ids = []
    for first in range(64):
        for second in range(64):
            words = np.zeros(2, np.uint64)
            words[0] ^= np.uint64(1) << np.uint64(first)
            words[1] ^= np.uint64(1) << np.uint64(second)
            ids.append(words.tobytes())
    found = hash_ids(pa.chunked_array([pa.array(ids, pa.binary())]))
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == len(ids)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_the_same_id_has_the_same_number_in_any_column(kind):
    whole = numbers(IDS)
    assert len(np.unique(whole, axis=0)) == len(IDS)
    array = pa.array(IDS, kind)
    cut = pa.chunked_array(
        [array.slice(0, 2), array.slice(2, 0), array.slice(2, 3), array.slice(5)]
    )
    assert (hash_ids(cut) == whole).all()
    assert (hash_ids(pa.chunked_array([array.slice(3)])) == whole[3:]).all()
    assert hash_ids(pa.chunked_array([], kind)).shape == (0, 2)


def test_sorting_tells_equal_ones_from_those_with_an_equal_half():
    rng = np.random.default_rng(0)
    some = rng.integers(0, 4, (200, 2)).astype(np.uint64)
    order = order_of(some)
    assert sorted(order) == list(range(200))
    assert some[order].tolist() == sorted(some.tolist())
    assert int(repeated(some[order]).sum()) == 200 - len(np.unique(some, axis=0))


def test_what_is_contained_is_found_with_its_second_half():
    there = ordered([np.array([[5, 1], [5, 2]], np.uint64), np.array([[1, 9]], np.uint64)])
    wanted = np.array([[5, 2], [5, 3], [1, 9], [2, 9], [5, 1], [9, 9]], np.uint64)
    assert contains(there, wanted).tolist() == [True, False, True, False, True, False]
    assert contains(ordered([]), wanted).tolist() == [False] * 6


URIS = [
    "/a/b", "a.mp4", "s3://b/k", "S3A://b", "file:///x/y", "FILE:///x", "file://rel/x",
    "simplecache::s3://b/k", "take::2.mp4", "a:b.mp4", "http://x", "", None, "  ", " a b", "C:/x",
    "é/ü.mp4", "./a", "../a", "a//b", "x://", "1x://y", "~/.x", "a\nb://c", "a:b://c", "gs://b/k",
]  # fmt: skip


@pytest.mark.parametrize(
    "base", ["/data/set", "/", "s3://b/set", "s3://b/set/", "file:///d", "", "https://x.org/a"]
)
@pytest.mark.parametrize("some", [URIS, URIS[:1], ["s3://b/k", "/a"], ["a", "b"], []])
def test_addresses_are_resolved_at_once_as_one_by_one(base, some):
    one_by_one = [sources.resolve(u, base) if u and u.strip() else u for u in some]
    column = pa.chunked_array([some[:3], some[3:]], pa.string())
    assert _resolved(column, base).to_pylist() == one_by_one
