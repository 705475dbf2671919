"""vidembed: embed corpora of videos on Ray, search them, and measure the search.

Everything here is imported when it is first used: `import vidembed` loads neither ray, torch,
pymilvus nor a decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidembed._version import __version__

if TYPE_CHECKING:
    from vidembed.api import (
        compare,
        embed,
        evaluate,
        load,
        open,  # noqa: A004
        plan,
        refresh,
        search,
        similarity,
    )
    from vidembed.decode.video import read_frames
    from vidembed.encode.registry import load_encoder
    from vidembed.errors import VidembedError
    from vidembed.rerank import load_reranker

__all__ = [
    "VidembedError",
    "__version__",
    "compare",
    "embed",
    "evaluate",
    "load",
    "load_encoder",
    "load_reranker",
    "open",
    "plan",
    "read_frames",
    "refresh",
    "search",
    "similarity",
]

_WHERE = {
    "VidembedError": "vidembed.errors",
    "compare": "vidembed.api",
    "embed": "vidembed.api",
    "evaluate": "vidembed.api",
    "load": "vidembed.api",
    "load_encoder": "vidembed.encode.registry",
    "load_reranker": "vidembed.rerank",
    "open": "vidembed.api",
    "plan": "vidembed.api",
    "read_frames": "vidembed.decode.video",
    "refresh": "vidembed.api",
    "search": "vidembed.api",
    "similarity": "vidembed.api",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vidembed' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
