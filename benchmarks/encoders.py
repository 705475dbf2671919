"""Speed and precision of the encoders, with weights of their real size.

    python benchmarks/encoders.py [--weights NAME=PATH ...] [--clips FOLDER] [--only NAME ...]
    python benchmarks/encoders.py --device cpu --short

It needs torch and transformers, and of vidembed the source tree alone. Where --weights does not
name an encoder's real weights, they are drawn from a seed: speed and memory are those of real ones,
deviations are not.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def _without_ftfy() -> None:
    """Clean texts of ASCII, all that is encoded here, are not mended: it need not be installed."""
    if importlib.util.find_spec("ftfy") is None:
        stand_in = types.ModuleType("ftfy")
        stand_in.__dict__["fix_text"] = str
        sys.modules["ftfy"] = stand_in


if __name__ == "__main__":
    _without_ftfy()
    from benchmarks.encoding.main import main

    main()
