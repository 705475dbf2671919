"""What the tests of the page need besides, and what they do where it is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

_REQUIRED = "VIDEMBED_REQUIRE_CHROMIUM"


def need_gradio() -> None:
    """Skip the module where Gradio is not installed; fail where it must be."""
    if importlib.util.find_spec("gradio") is None:
        _missing("Gradio is not installed: pip install -e '.[app]'")


def need_chromium() -> str:
    """The path of a Chromium; skips the module where there is none, fails where it must be."""
    need_gradio()
    if importlib.util.find_spec("playwright") is None:
        _missing("Playwright is not installed: pip install -e '.[test]'")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        _missing("there is no Chromium: apt-get install chromium")
    return found or ""


def _missing(reason: str) -> None:
    if os.environ.get(_REQUIRED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
