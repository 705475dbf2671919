"""What a result is of: the processor, and the commit of the code."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]


def about() -> dict[str, Any]:
    """What every result says of itself: day, commit, processor, its load, and Python."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def where(about: dict[str, Any], *packages: str) -> str:
    """The line that a table begins with: what was measured, and on what."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", *packages))
    return (
        f"vidembed at `{about['commit']}`, on {about['cpu']}, {about['cores']} cores, load at the "
        f"end {about['load']:.1f}; {versions}.\n"
    )


def cpu() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def cpu_dtype() -> Literal["bfloat16", "float32"]:
    """What networks are computed in on this processor: the smaller type where it has instructions
    for it, without which it is a hundred times slower.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        flags = []
    own = not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
    return "bfloat16" if own else "float32"


def commit() -> str:
    """The commit of the checkout, and whether the product differs from it; `unknown` elsewhere."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "vidembed")
    found = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    return found + " and changes" * bool(changed)


def _git(*words: str) -> str:
    try:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return run.stdout.strip()
