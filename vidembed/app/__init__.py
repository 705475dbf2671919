"""`vidembed app`: the page. Text or video in, ranked playable videos out.

What is needed besides (Gradio, its server) comes with the extra `app`, and is imported only when
the command runs.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from vidembed.config import AppConfig


def app(options: AppConfig) -> int:
    """Serve the page until Ctrl-C. Returns 0.

    Raises ConfigError where Gradio is not installed, the address cannot be listened on, or the run
    or collection cannot be opened as `vidembed.open` would.
    """
    if not _is_installed("gradio"):
        raise ConfigError("the page needs Gradio: pip install 'vidembed[app]'")
    from vidembed.app.server import serve

    return serve(options)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        # It has been ruled out by hand: sys.modules has None for it.
        return False
