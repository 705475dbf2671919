"""The plan: measure a sample here, put what it costs into the model, look at clusters."""

from __future__ import annotations

import contextlib
import datetime
import platform
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from vidembed import sources
from vidembed.manifest import Columns, open_manifest
from vidembed.pipeline import summary
from vidembed.pipeline.lanes import choose
from vidembed.planning import figures, prices
from vidembed.planning.machines import Cluster
from vidembed.planning.model import NotMeasuredError, cpus_per_gpu
from vidembed.planning.reckoning import Reckoning
from vidembed.planning.result import Plan
from vidembed.planning.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.config.plan import PlanConfig
    from vidembed.manifest import Manifest
    from vidembed.planning.prices import Prices
    from vidembed.planning.survey import Survey


def plan(config: PlanConfig, say: Callable[[str], None] = lambda sentence: None) -> Plan:
    """Measure and reckon. say: is told what is being measured.

    Raises UsageError before anything is measured, RunError where nothing of the sample decodes, or
    a trial run fails.
    """
    book = prices.read(config.prices)
    for words in config.nodes:
        book.cluster(words)
    with _scratch(config.store) as folder:
        embedding = config.embedding(sources.join(folder, "run"), progress="none")
        specs = choose(embedding)
        manifest = open_manifest(
            config.manifest, Columns(config.id_column, config.uri_column, config.uri_template)
        )
        found = survey(config, embedding, specs, manifest, say)
    return _reckoned(config, found, manifest, book)


@contextmanager
def _scratch(store: str | None) -> Iterator[str]:
    """A folder that is gone afterwards."""
    if store is None:
        with tempfile.TemporaryDirectory(prefix="vidembed-plan-") as folder:
            yield folder
        return
    folder = sources.join(sources.absolute(store), f"vidembed-plan-{uuid.uuid4().hex[:12]}")
    try:
        yield folder
    finally:
        sources.remove(folder)


def _reckoned(config: PlanConfig, found: Survey, manifest: Manifest, book: Prices) -> Plan:
    costs, here = found.costs, found.here
    reckoning = Reckoning(config, found.work, book)
    # This machine's CPUs are as fast as themselves.
    alone = [replace(each, cpu_speed=1.0) for each in (costs, *found.drawn)]
    outlooks, lacking = reckoning.all(costs, found.drawn)
    ratios = {}
    for kind in dict.fromkeys([*costs.gpu_rates, *(m.gpu for m in book.types.values() if m.gpus)]):
        with contextlib.suppress(NotMeasuredError):
            ratios[kind or "GPU"] = cpus_per_gpu(costs, kind)
    return Plan(
        manifest=manifest.source,
        videos=found.work.videos,
        sampled=len(found.decoded.videos),
        failures=dict(found.decoded.failures),
        encoders=tuple(spec.name for spec in found.specs.values()),
        machine={
            "cpus": here.cpus,
            "gpus": here.gpus,
            "gpu": here.gpu,
            "system": platform.platform(),
            "load": round(found.load, 2),
        },
        figures=tuple(figures.figures(config, found)),
        here=reckoning.outlook(Cluster(((here, 1),)), alone[0], alone[1:]),
        outlooks=tuple(outlooks),
        cpus_per_gpu=ratios,
        not_measured=tuple(lacking),
        assumptions=tuple(figures.assumptions(config, found)),
        warnings=(
            *figures.warnings(found),
            *book.warnings(datetime.datetime.now(datetime.UTC).date()),
        ),
        prices={
            "file": book.source,
            "date": book.date.isoformat(),
            "currency": book.currency,
            "region": book.region,
            "kind": "spot" if config.spot else "on demand",
        },
        deadline_hours=config.deadline,
        versions=summary.versions(),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
