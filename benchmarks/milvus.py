"""Rows a second into Milvus: vidembed's projection beside a bare loop of upserts, and its import.

    python benchmarks/milvus.py [--rows N] [--short] [--milvus URI --stage FOLDER]

Without --milvus, the server of the package `milvus` is started for the time of the run.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # In place of this folder, in which `milvus` is this file and not the package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from benchmarks.projecting import main

    main()
