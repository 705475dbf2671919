"""The parts of the page that are drawn here: header, examples, answers. All text is escaped."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vidembed import addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidembed.app.queries import About, Answer
    from vidembed.query import Hit

_TEMPLATES = Path(__file__).parent / "templates"
# Containers that no browser plays; what a browser cannot play besides, it says itself.
_STILL = {
    ".avi": "AVI", ".wmv": "WMV", ".asf": "WMV", ".flv": "FLV", ".mpg": "MPEG", ".mpeg": "MPEG",
    ".vob": "MPEG", ".ts": "MPEG-TS", ".m2ts": "MPEG-TS", ".mts": "MPEG-TS", ".gif": "GIF",
}  # fmt: skip
_CAPTIONS = ("caption", "sentence", "text", "title")
_LONGEST_VALUE = 300
# Columns on a card; the others are in a tooltip.
_SHOWN = 6


def header(title: str, about: About) -> str:
    """What is searched, and with what."""
    return _draw("header.html", title=title, about=about)


def examples(texts: Sequence[str]) -> str:
    return _draw("examples.html", texts=texts) if texts else ""


def start(about: About, sample: Sequence[Hit]) -> str:
    """Before the first query: what to do, and some of what is there."""
    cards = [_card(hit, rank=None) for hit in sample]
    return _draw("start.html", about=about, cards=cards)


def drop(about: About, most: int) -> str:
    """Where a video to search by goes. most: bytes that it may have."""
    return _draw("drop.html", about=about, most=most)


def nothing_typed() -> str:
    return _draw("nothing_typed.html")


def loading(shown: str, count: int) -> str:
    return _draw("loading.html", shown=shown, count=min(count, 12))


def answer(found: Answer, about: About) -> str:
    """The cards, or why there are none and what to do."""
    cards = [_card(hit, rank) for rank, hit in enumerate(found.hits, start=1)]
    return _draw("answer.html", answer=found, about=about, cards=cards)


def _card(hit: Hit, rank: int | None) -> dict[str, Any]:
    """What a card shows. Addresses are relative: the page may be served below another path."""
    row = quote(hit.id, safe="")
    caption, rest = _told(hit.metadata)
    return {
        "hit": hit,
        "rank": rank,
        "uri": addresses.shown(hit.uri),
        "media": f"media/{row}",
        "fragment": f"#t={hit.start_s:.3f},{hit.end_s:.3f}",
        "thumbnail": f"thumbnail/{row}.jpg",
        "window": f"{clock(hit.start_s)} – {clock(hit.end_s)}",
        "still": _STILL.get(Path(addresses.display_name(hit.uri)).suffix.lower()),
        "caption": caption,
        "metadata": rest[:_SHOWN],
        "more": [f"{name}: {value}" for name, value in rest[_SHOWN:]],
    }


def clock(seconds: float) -> str:
    """
    >>> clock(3.25), clock(5.999), clock(75), clock(3725)
    ('0:03.2', '0:06', '1:15', '1:02:05')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{tenths % 10}" if tenths % 10 and not hours else ""
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}{tail}"


def _told(metadata: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The caption, and the other columns as (name, value)."""
    given = {name: _plain(value) for name, value in metadata.items() if value is not None}
    caption = next((given.pop(name) for name in _CAPTIONS if given.get(name)), "")
    return caption, [(name, value) for name, value in given.items() if value]


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        text = " · ".join(map(str, value))
    elif isinstance(value, dict):
        text = json.dumps(value, default=str)
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _draw(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
