"""The driver that is measured, and killed: `python -m benchmarks.scaling.job MANIFEST RUN`."""

from __future__ import annotations

import sys

from benchmarks.scaling import stages
from vidembed.config import EmbedConfig
from vidembed.pipeline.flow import Stages, embed


def main() -> None:
    manifest, out, *words = sys.argv[1:]
    config = EmbedConfig.make(
        {
            "manifest": manifest,
            "out": out,
            "encoder": f"{stages.__name__}:{stages.Numbers.__name__}",
            "batch_size": 1024,
            "progress": "plain",
            **dict(word.split("=", 1) for word in words),
        }
    )
    for report in embed(config, Stages(decode=stages.Decode, encode=stages.Encode)).values():
        print(report)


if __name__ == "__main__":
    main()
