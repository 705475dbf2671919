"""Retrieval metrics as their sources define them, and how sure they are. numpy only.

Pure functions over what a backend finds (`vidembed.evaluation.ranking.Ranking`):

    metrics.retrieval(rank, ties, gallery=…, ks=(1, 5, 10))          R@k, MdR, MnR, MRR
    metrics.labelled(metrics.Labelled(hits=…, …), ks=(10,))          mHR@k, mAP@k, nDCG@k, …
    metrics.bootstrap(metrics.retrieval_terms(rank, ties, ks=…))     95% intervals
    metrics.paired(terms_of_a, terms_of_b)                           differences and p-values
    metrics.dual_softmax, metrics.QueryBank, metrics.qb_norm         post-processings of scores

Each metric and its source: docs/metrics.md.
"""

from vidembed.metrics.labelled import (
    Labelled,
    average_precision,
    average_precision_cut,
    first_hit,
    first_hit_terms,
    hit_ratio,
    labelled,
    labelled_terms,
    ndcg,
)
from vidembed.metrics.postprocess import (
    BETA,
    BETAS,
    TEMPERATURE,
    TEMPERATURES,
    BankBlock,
    QueryBank,
    bank_block,
    dual_softmax,
    qb_norm,
)
from vidembed.metrics.resampling import Difference, bootstrap, paired
from vidembed.metrics.retrieval import mean_rank_terms, retrieval, retrieval_terms
from vidembed.metrics.terms import Terms
from vidembed.metrics.ties import RULES, Rule, ranked, ranks

__all__ = [
    "BETA",
    "BETAS",
    "RULES",
    "TEMPERATURE",
    "TEMPERATURES",
    "BankBlock",
    "Difference",
    "Labelled",
    "QueryBank",
    "Rule",
    "Terms",
    "average_precision",
    "average_precision_cut",
    "bank_block",
    "bootstrap",
    "dual_softmax",
    "first_hit",
    "first_hit_terms",
    "hit_ratio",
    "labelled",
    "labelled_terms",
    "mean_rank_terms",
    "ndcg",
    "paired",
    "qb_norm",
    "ranked",
    "ranks",
    "retrieval",
    "retrieval_terms",
]
