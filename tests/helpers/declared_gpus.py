"""`python -m tests.helpers.declared_gpus embed …` on a cluster whose GPUs are only declared: actors
claim them and go where they are, and the encoder in each computes on the CPU.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from vidembed.cli import _options, make_parser
from vidembed.commands.runs import show_report
from vidembed.config import EmbedConfig
from vidembed.encode import stage
from vidembed.pipeline import flow


class Encode(stage.Encode):
    """The stage as it is, but for the device that it loads its encoder on."""

    def __init__(self, settings, tally):
        assert settings.device == "cuda", "the pool has claimed no GPU"
        super().__init__(replace(settings, device="cpu", threads=1), tally)


def main() -> None:
    # By name, as workers import it: this module is `__main__` here.
    from tests.helpers.declared_gpus import Encode as OnCpu

    config = EmbedConfig.make(_options(make_parser().parse_args(sys.argv[1:])))
    for report in flow.embed(config, flow.Stages(encode=OnCpu)).values():
        show_report(report)


if __name__ == "__main__":
    main()
