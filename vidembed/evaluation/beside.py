"""The index of a Milvus collection beside the exact ranking: the same questions, both answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.errors import ConfigError
from vidembed.evaluation import indexed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.evaluation.directions import Labels, Texts
    from vidembed.evaluation.gallery import Gallery
    from vidembed.evaluation.indexed import Point
    from vidembed.evaluation.job import Answers, Questions


def check(config: EvaluateConfig, asked: Questions, gallery: Gallery) -> None:
    """Raise ConfigError for what an index cannot be asked, before anything is ranked."""
    if config.sweep is not None:
        indexed.parse_sweep(config.sweep)
    if asked.texts is None and asked.labels is None:
        raise ConfigError(
            "--backend milvus searches for videos: let --directions have text_to_video or "
            "video_to_video"
        )
    unlabelled = 0 if asked.labels is None else gallery.videos - asked.labels.gallery.videos
    if unlabelled:
        raise ConfigError(
            f"{unlabelled:,} videos of {gallery.run.uri} have no label, and the collection would "
            f"find them too: leave video_to_video out with --directions, or --backend milvus"
        )


def through_milvus(
    config: EvaluateConfig, asked: Questions, gallery: Gallery, answers: Answers
) -> None:
    """Put the collection's answers in the place of the exact ones, and those below `exact`.

    Raises ConfigError and RunMismatchError where the collection is not the run's.
    """
    # Not before the exact ranking: Ray forks, and a fork beside gRPC's threads may never come back.
    from vidembed.store.milvus import Collection

    assert config.milvus is not None
    with closing(Collection(config.milvus, config.collection)) as collection:
        index = indexed.Index.of(collection.current(), gallery, config.search_params)
        told: dict[str, Any] = index.plain()
        exact: dict[str, Any] = {}
        for direction, side, code in _sides(asked, gallery):
            ranking = answers.rankings[direction]
            point = indexed.measure(index, side.asked, code, ranking, config.k)
            exact[direction] = answers.tables[direction]
            answers.tables[direction] = side.measured(config, point.ranking)
            answers.rows[direction] = side.rows(config, point.ranking)
            if "direction" in told:
                told[direction] = point.plain()
                continue
            told |= {"direction": direction} | point.plain()
            if config.sweep is not None:
                points = indexed.sweep(index, side.asked, code, ranking, config.k, config.sweep)
                told["sweep"] = [_swept(config, side, each) for each in points]
    answers.tables |= {"exact": exact, "milvus": told}


def _sides(
    asked: Questions, gallery: Gallery
) -> Iterator[tuple[str, Texts | Labels, NDArray[np.int64]]]:
    if asked.texts is not None:
        yield "text_to_video", asked.texts, np.arange(gallery.videos)
    if asked.labels is not None:
        yield "video_to_video", asked.labels, asked.labels.code


def _swept(config: EvaluateConfig, side: Texts | Labels, point: Point) -> dict[str, Any]:
    table = side.measured(config, point.ranking)
    measured = {name: value for name, value in table.items() if name not in ("ci95", "by")}
    return {"params": point.params} | point.plain() | measured
