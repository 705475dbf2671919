"""NeMo Curator: its reader and its frame extraction, a stage of one's own for CLIP, Ray Data.

Its own embedding stage wants a GPU and a download; its clipping stages, which cut and transcode,
have nothing to do where a clip is a whole file.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparing.peers import common

common.mend_torchvision()

import ray  # noqa: E402
from nemo_curator.backends.ray_data import RayDataExecutor  # noqa: E402
from nemo_curator.pipeline import Pipeline  # noqa: E402
from nemo_curator.stages.base import ProcessingStage  # noqa: E402
from nemo_curator.stages.resources import Resources  # noqa: E402
from nemo_curator.stages.video.clipping.clip_frame_extraction import (  # noqa: E402
    ClipFrameExtractionStage,
)
from nemo_curator.stages.video.io.video_reader import VideoReader  # noqa: E402
from nemo_curator.tasks.video import Clip, VideoTask  # noqa: E402


@dataclass
class WholeVideo(ProcessingStage[VideoTask, VideoTask]):
    """The file as its only clip, as it is."""

    name: str = "whole_video"

    def __post_init__(self) -> None:
        self.resources = Resources(cpus=0.1)

    def inputs(self) -> tuple[list[str], list[str]]:
        return ["data"], []

    def outputs(self) -> tuple[list[str], list[str]]:
        return ["data"], ["clips"]

    def process(self, task: VideoTask) -> VideoTask:
        video = task.data
        span = (0.0, video.metadata.duration or 0.0)
        name = str(video.input_video)
        # `source_bytes` may be what could not be understood: the next stage tells.
        video.clips = [Clip(uuid=uuid.uuid4(), source_video=name, span=span)]
        video.clips[0].buffer = video.source_bytes
        video.source_bytes = None
        return task


@dataclass
class Encode(ProcessingStage[VideoTask, VideoTask]):
    encoder_name: str = "null"
    weights: str = ""
    name: str = "clip_b32"

    def __post_init__(self) -> None:
        self.resources = Resources(cpus=1.0)
        self.batch_size = common.BATCH

    def inputs(self) -> tuple[list[str], list[str]]:
        return ["data"], []

    def outputs(self) -> tuple[list[str], list[str]]:
        return ["data"], []

    def setup(self, worker_metadata: Any = None) -> None:
        self._encoder = common.encoder(self.encoder_name, self.weights)

    def process(self, task: VideoTask) -> VideoTask:
        for clip in task.data.clips:
            for frames in clip.extracted_frames.values():
                ready = np.stack([common.prepared(frame) for frame in frames])
                clip.cosmos_embed1_embedding = self._encoder.videos(ready[None])[0]
            clip.extracted_frames.clear()
            clip.buffer = None
        return task

    def process_batch(self, tasks: list[VideoTask]) -> list[VideoTask]:
        return [self.process(task) for task in tasks]


def main() -> None:
    options = common.options()
    # It reads folders: this one holds links to the files of the list.
    folder = options.out / "videos"
    folder.mkdir()
    for path in options.paths:
        (folder / Path(path).name).symlink_to(path)
    pipeline = Pipeline(name="embed", stages=[
        VideoReader(input_video_path=str(folder)),
        WholeVideo(),
        ClipFrameExtractionStage(target_fps=[1 / options.interval], num_cpus=1),
        Encode(encoder_name=options.encoder, weights=options.weights),
    ])  # fmt: skip
    # Two of its stages are actors that hold a CPU each: of two, none would be left for the readers.
    ray.init(address="local", num_cpus=len(os.sched_getaffinity(0)) + 2)
    tasks = pipeline.run(RayDataExecutor())
    ids, vectors = [], []
    for task in tasks:
        for clip in task.data.clips:
            if clip.errors or clip.cosmos_embed1_embedding is None:
                print("failed:", clip.source_video, clip.errors)
                continue
            ids.append(clip.source_video)
            vectors.append(clip.cosmos_embed1_embedding)
    common.write(options.out, ids, np.stack(vectors))


if __name__ == "__main__":
    main()
