"""The encoders of a job, each with the options, the spec and the run that it would have alone."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.encode import registry
from vidembed.errors import ConfigError
from vidembed.labels import ALONE
from vidembed.pipeline import summary
from vidembed.pipeline.progress import say
from vidembed.store.compact import heal
from vidembed.store.lease import held
from vidembed.store.run import Run, delete_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.choice import Choice
    from vidembed.config import EmbedConfig
    from vidembed.encode.spec import EncoderSpec

_TIMED = ("fps", "clip4clip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One encoder of a job and its run. config: the options as if it were alone."""

    label: str
    config: EmbedConfig
    spec: EncoderSpec
    run: Run


def choose(config: EmbedConfig) -> dict[str, EncoderSpec]:
    """What --encoder and --weights name, by label, sampled as asked for.

    Raises ConfigError, and WeightsError for weights that are absent or do not fit.
    """
    specs = {choice.label: _spec(config, choice) for choice in config.choices}
    if config.fps is not None and not any(_takes_fps(spec) for spec in specs.values()):
        names = ", ".join(choice.name for choice in config.choices)
        verb = "samples" if len(specs) == 1 else "sample"
        raise ConfigError(f"--fps: {names} {verb} uniformly with these weights; add --sampling fps")
    return specs


def _spec(config: EmbedConfig, choice: Choice) -> EncoderSpec:
    spec = registry.describe(choice.encoder, choice.weights, choice.preset)
    spec = spec.sampled(kind=config.sampling, count=config.frames)
    if _takes_fps(spec):
        spec = spec.sampled(fps=config.fps)
    return spec.prepared(replace(spec.clip, aspect=config.aspect))


def _takes_fps(spec: EncoderSpec) -> bool:
    return spec.clip.sampling.kind in _TIMED


@contextmanager
def opened(config: EmbedConfig, specs: dict[str, EncoderSpec], run_id: str) -> Iterator[list[Lane]]:
    """The runs of these encoders, made, resumed or begun anew, as this attempt's own, and nobody
    else's while the block runs. run_id: of this attempt.

    Raises ConfigError and RunMismatchError before any of them is made.
    """
    alone = {choice.label: config.alone(choice) for choice in config.choices}
    records = {label: summary.record(alone[label], spec) for label, spec in specs.items()}
    if not config.overwrite:
        _check_layout(config)
        for label, record in records.items():
            Run.check(alone[label].out, record)
    with ExitStack() as stack:
        for each in alone.values():
            stack.enter_context(held(sources.absolute(each.out), say))
        if config.overwrite:
            for uri in dict.fromkeys([config.out, *(each.out for each in alone.values())]):
                delete_run(uri)
        yield _taken(alone, specs, records, run_id)


def _taken(
    alone: dict[str, EmbedConfig],
    specs: dict[str, EncoderSpec],
    records: dict[str, dict[str, Any]],
    run_id: str,
) -> list[Lane]:
    lanes = [
        Lane(
            label=label,
            config=alone[label],
            spec=spec,
            run=Run.create_or_resume(alone[label].out, records[label]).take_over(run_id=run_id),
        )
        for label, spec in specs.items()
    ]
    for lane in lanes:
        heal(lane.run)
    return lanes


def _check_layout(config: EmbedConfig) -> None:
    """A folder is one run, or holds one run for each encoder; Raises ConfigError for a mixture."""
    for choice in config.choices:
        if choice.label == ALONE:
            within = sources.join(config.out, choice.encoder.rpartition(":")[2])
            if sources.exists(sources.join(within, "run.json")):
                raise ConfigError(
                    f"{config.out} holds a run for each of several encoders; --out {within} "
                    f"resumes that of {choice.encoder}"
                )
        elif sources.exists(sources.join(config.out, "run.json")):
            raise ConfigError(
                f"{config.out} is the run of one encoder, and several need a run each; name "
                f"another --out, or --overwrite it"
            )
