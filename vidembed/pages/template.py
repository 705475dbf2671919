"""How every page is made: templates whose texts are escaped, and how texts and numbers are shown.

What a page shows may have been written by strangers: ids, captions, labels.
"""

from __future__ import annotations

import base64
import functools
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_LONGEST = 240


def fill(template: str, **values: Any) -> str:
    """The page that a template makes of these values; a name that it lacks is an error."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "number": number, "rank": rank, "base64": _base64}
    return environment


def short(text: object, longest: int = _LONGEST) -> str:
    """A text for one place of a page: without control characters, and cut where it is long.

    Marks that turn the direction of writing stay: the page isolates each text.
    """
    clean = "".join(" " if unicodedata.category(c) == "Cc" else c for c in str(text)[: 4 * longest])
    clean = " ".join(clean.split())
    return clean if len(clean) <= longest else clean[: longest - 1].rstrip() + "…"


def number(value: float | None, digits: int = 3) -> str:
    """Counts with separators, others with so many digits; a dash where there is none.

    >>> number(12345), number(0.42149), number(None), number(1234.5678, 1)
    ('12,345', '0.421', '–', '1,234.6')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def rank(value: float) -> str:
    """A rank or a median of ranks, which may be a half.

    >>> rank(1.0), rank(1234.0), rank(2.5)
    ('1', '1,234', '2.5')
    """
    return f"{value:,.1f}".removesuffix(".0")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
