"""All that is measured here for a plan, and the costs that follow from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vidembed import sources
from vidembed.access import Access
from vidembed.errors import ConfigError, RunError
from vidembed.pipeline.portioning import batch_rows, rows_per_part
from vidembed.pipeline.settings import decode_settings, encode_settings
from vidembed.planning import trial
from vidembed.planning.machines import Cluster, Machine
from vidembed.planning.measure import Decoded, Encoding, Writing, decode, encode, write
from vidembed.planning.model import Costs, Work, pools_of, predict
from vidembed.planning.sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vidembed.config import EmbedConfig
    from vidembed.config.plan import PlanConfig
    from vidembed.encode.spec import EncoderSpec
    from vidembed.manifest import Manifest
    from vidembed.planning.measure import Video

_ROUNDS = 300
# What a trial run should take by itself, and of how many videos it is.
_TRIAL_S = 12.0
_TRIAL_VIDEOS = (4, 5000)
_EFFICIENCIES = (0.1, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """work: the job on the whole corpus; here: this machine; costs: the sample's means; drawn: what
    they might be, the sample drawn anew from itself; load: of the machine, before anything began.
    """

    work: Work
    specs: Mapping[str, EncoderSpec]
    here: Machine
    load: float
    decoded: Decoded
    encoding: Encoding
    writing: Writing
    costs: Costs
    drawn: Sequence[Costs]


def survey(
    config: PlanConfig,
    embedding: EmbedConfig,
    specs: Mapping[str, EncoderSpec],
    manifest: Manifest,
    say: Callable[[str], None],
) -> Survey:
    """Measure each stage by itself, and then some real runs of the sample.

    embedding: a job of the same options, whose --out is a scratch folder. Raises ConfigError, and
    RunError where nothing of the sample decodes or a run fails.
    """
    here, load = this_machine(config), os.getloadavg()[0]
    batch = batch_rows(config.batch_size, [spec.clip for spec in specs.values()])
    work = Work(
        videos=config.videos or manifest.rows,
        config=embedding,
        encoders=len(specs),
        batch=batch,
    )
    rows = sample(manifest, config.sample, config.seed)
    access = Access.of(manifest.folder, config.allow_root)
    say(f"decoding {len(rows):,} of {manifest.rows:,} videos")
    decoded = decode(decode_settings(embedding, specs, manifest.metadata, access), rows, batch)
    if not decoded.clips:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in decoded.failures.items())
        raise RunError(f"no video of the sample could be decoded ({kinds}): nothing to plan by")
    say("encoding clips of them")
    pools = pools_of(Cluster(((here, 1),)), embedding, len(specs))
    encoding = encode(encode_settings(embedding, specs, pools), decoded.clips, batch)
    part = rows_per_part(work.videos, [spec.dim for spec in specs.values()])
    writing = write(embedding, specs, encoding.encoded, part)
    costs = _costs(config, here, decoded, encoding, writing)
    if config.start_up is None or config.efficiency is None:
        good = pa.array([video.failure is None for video in decoded.videos])
        runs = _Runs(work, here, rows.filter(good), list(specs))
        costs = runs.into(costs, [v for v in decoded.videos if v.failure is None], config, say)
    if config.milvus is not None:
        # Last: it opens threads of gRPC, and what starts processes beside them may wait for ever.
        from vidembed.planning.milvus import rows_per_s

        say(f"writing rows into {sources.shown(config.milvus)}")
        rate = rows_per_s(config.milvus, next(iter(specs.values())), encoding.encoded)
        costs = replace(costs, milvus_rows=rate / len(specs))
    rng = np.random.default_rng(config.seed)
    draws = rng.integers(0, len(rows), (_ROUNDS, len(rows)))
    return Survey(
        work=work, specs=specs, here=here, load=load, decoded=decoded, encoding=encoding,
        writing=writing, costs=costs,
        drawn=[_with(costs, [decoded.videos[k] for k in draw]) for draw in draws],
    )  # fmt: skip


def this_machine(config: PlanConfig) -> Machine:
    """As Ray would see it."""
    import torch

    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    if config.device == "cuda" and not gpus:
        raise ConfigError(
            "--device cuda: torch sees no GPU here; without it, --encode-rate says how fast one is"
        )
    return Machine(
        name="this machine",
        cpus=os.cpu_count() or 1,
        gpus=gpus,
        gpu=torch.cuda.get_device_name() if gpus else "",
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"),
    )


def _costs(
    config: PlanConfig, here: Machine, decoded: Decoded, encoding: Encoding, writing: Writing
) -> Costs:
    """The sample's means."""
    rates = dict(config.encode_rate)
    if here.gpus:
        rates = {here.gpu: 1 / encoding.seconds, **rates}
    costs = Costs(
        decode_cpu_s=0.0,
        decode_wait_s=0.0,
        clips=0.0,
        read_bytes=0.0,
        clip_bytes=decoded.clip_bytes,
        encode_s=None if here.gpus else encoding.seconds,
        encode_cpu_s=None if here.gpus else encoding.cpu_s,
        encode_threads=max(1, encoding.threads),
        gpu_rates=rates,
        gpu_cpu_s=encoding.cpu_s if here.gpus else 0.0,
        write_s=writing.seconds,
        write_cpu_s=writing.cpu_s,
        milvus_rows=config.milvus_rate,
        start_up_s=config.start_up or 0.0,
        efficiency=config.efficiency or 1.0,
        cpu_speed=config.cpu_speed,
    )
    return _with(costs, decoded.videos)


def _with(costs: Costs, videos: Sequence[Video]) -> Costs:
    """The same, of these videos."""
    return replace(
        costs,
        decode_cpu_s=float(np.mean([video.cpu_s for video in videos])),
        decode_wait_s=float(np.mean([video.wait_s for video in videos])),
        clips=float(np.mean([video.clips for video in videos])),
        read_bytes=float(np.mean([video.remote_bytes for video in videos])),
    )


@dataclass(frozen=True, slots=True)
class _Runs:
    """Real runs of the videos of the sample that decode."""

    work: Work
    here: Machine
    rows: pa.Table
    labels: Sequence[str]

    def into(
        self, costs: Costs, videos: Sequence[Video], config: PlanConfig, say: Callable[[str], None]
    ) -> Costs:
        """The costs with what is not given: start-up by a run of one video, and efficiency by one
        of so many that it works for some seconds.
        """
        alone = replace(_with(costs, videos), start_up_s=0.0, cpu_speed=1.0)
        first = _with(alone, videos[:1])
        spent = first.decode_cpu_s + first.decode_wait_s + first.clips * first.write_s
        spent += first.clips / self._encoding(alone)
        say("a run of one video, for what a run takes besides its videos")
        one = self._run(1)
        start_up, efficiency = max(0.0, one.wall_s - spent), costs.efficiency
        if config.efficiency is None:
            each = self._seconds(alone, 1.0, 1000) / 1000
            least, most = _TRIAL_VIDEOS
            count = max(least, min(most, int(_TRIAL_S / each)))
            say(f"a run of {count:,}, for how stages share this machine")
            many = self._run(count)
            # The encoder is ready some time after the first video is begun: that is in both.
            took = max(1e-3, many.working_s - one.working_s + spent)
            efficiency = self._efficiency(alone, count, took)
            start_up = (start_up + max(0.0, many.wall_s - took)) / 2
        if config.start_up is not None:
            start_up = config.start_up
        return replace(costs, start_up_s=start_up, efficiency=efficiency)

    def _run(self, videos: int) -> trial.Trial:
        out = f"{self.work.config.out}-of-{videos}"
        config = self.work.config.model_copy(update={"out": out})
        return trial.run(config, self.rows, videos, self.labels)

    def _encoding(self, costs: Costs) -> float:
        """Clips a second, by one encode actor here."""
        return 1 / costs.encode_s if costs.encode_s else costs.gpu_rates[self.here.gpu]

    def _seconds(self, costs: Costs, efficiency: float, videos: int) -> float:
        work = replace(self.work, videos=videos)
        there = Cluster(((self.here, 1),))
        return predict(replace(costs, efficiency=efficiency), there, work).seconds

    def _efficiency(self, costs: Costs, videos: int, took: float) -> float:
        """The one with which the model says what the run took."""
        low, high = _EFFICIENCIES
        for _ in range(30):
            middle = (low + high) / 2
            if self._seconds(costs, middle, videos) > took:
                low = middle
            else:
                high = middle
        return (low + high) / 2
