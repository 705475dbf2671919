"""Commands that say how good a search is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from vidembed.commands.console import console

if TYPE_CHECKING:
    from vidembed.config import EvaluateConfig
    from vidembed.evaluation import Evaluation


def evaluate(options: EvaluateConfig) -> int:
    from vidembed.evaluation import evaluate as job

    evaluation = job(options)
    show_evaluation(evaluation)
    print(f"written to {evaluation.out}")
    return 0


def show_evaluation(evaluation: Evaluation) -> None:
    directions = {k: v for k, v in evaluation.result.items() if isinstance(v, dict)}
    columns = ["R@1", "R@5", "R@10", "MdR", "MnR", "MRR", "queries", "gallery"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for direction, values in directions.items():
        table.add_row(
            direction.replace("_to_", "→").replace("_", ", "),
            *(_number(values[c]) for c in columns),
        )
    console().print(table)
    if left_out := evaluation.result["left_out"]:
        print(f"{left_out:,} queries left out: they are empty, or their videos are not in the run")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
