"""What embedding costs beside others: vidembed and six other tools.

    python benchmarks/peers.py [--videos FOLDER] [--short] [--only NAME ...] [--cache FOLDER]

The others run in environments of their own, which are made below --cache from the versions listed
in benchmarks/comparing/peers; they take 7 GB there. NeMo Curator wants the ffmpeg command.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparing.main import main

if __name__ == "__main__":
    main()
