"""Metrics of queries with one answer each: R@k, median rank, mean rank, mean reciprocal rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.metrics.terms import Terms
from vidembed.metrics.ties import Places, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def retrieval(
    rank: NDArray[np.float64],
    ties: NDArray[np.int64],
    *,
    gallery: int,
    ks: Sequence[int],
    rule: Rule = "reference",
    several: bool = False,
) -> dict[str, Any]:
    """R@k for each k, MdR, MnR and MRR, with `queries` and `gallery`.

    rank: float64 [queries], 1 + how many of the gallery score higher than the answer; inf where an
    index did not give it back. ties: int64 [queries], how many others score the same. rule: see
    `vidembed.metrics.ties`; several: some video has several captions, and this is text to video
    (then the reference takes each query once, and the lower of two middle ranks).

    A rank of inf is a miss for R@k and 0 for MRR; MnR is then None, and MdR if it would be
    infinite. Ratios are 0 to 1. Raises ValueError without queries.

    R@k, MdR, MnR: Luo et al., CLIP4Clip, arXiv 2104.08860, and its `metrics.py`. MRR: Voorhees, The
    TREC-8 Question Answering Track Report, 1999.
    """
    terms = retrieval_terms(rank, ties, ks=ks, rule=rule, several=several)
    places = Places.of(rank, ties, rule, several=several)
    means = terms.means()
    mean = float(places.mean().sum() / places.weight.sum())
    return {name: means[name] for name in terms.names if name != "MRR"} | {
        "MdR": places.median(lower=several and rule == "reference"),
        "MnR": mean if np.isfinite(mean) else None,
        "MRR": means["MRR"],
        "queries": len(rank),
        "gallery": gallery,
    }


def retrieval_terms(
    rank: NDArray[np.float64],
    ties: NDArray[np.int64],
    *,
    ks: Sequence[int],
    rule: Rule = "reference",
    several: bool = False,
) -> Terms:
    """What each query gives to R@k and MRR, for `bootstrap` and `paired`; as `retrieval`."""
    places = Places.of(rank, ties, rule, several=several)
    columns = [places.within(k) for k in ks] + [places.reciprocal()]
    return Terms(
        names=(*(f"R@{k}" for k in ks), "MRR"),
        values=np.stack(columns, axis=1),
        weights=places.weight,
    )


def mean_rank_terms(
    rank: NDArray[np.float64],
    ties: NDArray[np.int64],
    *,
    rule: Rule = "reference",
    several: bool = False,
) -> Terms | None:
    """What each query gives to MnR; None where a rank is infinite."""
    places = Places.of(rank, ties, rule, several=several)
    if not np.isfinite(places.first).all():
        return None
    return Terms(names=("MnR",), values=places.mean()[:, None], weights=places.weight)
