"""Where tables go."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Standard output for people. Not narrower than a report needs where it is no terminal."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=160)
