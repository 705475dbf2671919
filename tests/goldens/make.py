"""Make the goldens anew, in the environment of the reference implementations.

PYTHONPATH=. ORACLE/bin/python -m tests.goldens.make [NAME …]
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import numpy as np

from tests.goldens import oracles

HERE = Path(__file__).parent


def main() -> None:
    there = {m.name for m in pkgutil.iter_modules(oracles.__path__)} - {"shim"}
    for name in sys.argv[1:] or sorted(there):
        module = importlib.import_module(f"tests.goldens.oracles.{name}")
        for file, arrays in module.make().items():
            np.savez_compressed(HERE / f"{file}.npz", **arrays)
            print(file, {k: v.shape for k, v in arrays.items()})


if __name__ == "__main__":
    main()
