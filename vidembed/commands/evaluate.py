"""Commands that say how good a search is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidembed.config import CompareConfig, EvaluateConfig


def evaluate(options: EvaluateConfig) -> int:
    from vidembed.commands.evaluation import show_evaluation
    from vidembed.evaluation import evaluate as job

    evaluation = job(options)
    show_evaluation(evaluation)
    print(f"written to {evaluation.out}: evaluation.json, .parquet and .html")
    return 0


def compare(options: CompareConfig) -> int:
    from vidembed.commands.comparison import show_comparison
    from vidembed.comparison import compare as job

    comparison = job(options)
    if options.as_json:
        print(json.dumps(comparison.result))
    else:
        show_comparison(comparison)
        print(f"written to {comparison.out}")
    return 0
