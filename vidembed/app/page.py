"""The page: its components, and what happens when they are used."""

from __future__ import annotations

# Gradio finds out by the annotations of a handler that it wants an event.
from collections.abc import Iterator  # noqa: TC003
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from vidembed.app import cards
from vidembed.app.queries import Query, Wishes, examples, filter_hint, sample

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vidembed.app.queries import Asking
    from vidembed.config import AppConfig

_STATIC = Path(__file__).parent / "static"
_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
_MOST_TOP = 200
_AT_START = 8
_AT_ONCE = 4
_DROP = """
element.addEventListener('change', event => vidembed.chosen(event, trigger));
element.addEventListener('dragover', vidembed.over);
element.addEventListener('dragleave', vidembed.left);
element.addEventListener('drop', event => vidembed.dropped(event, trigger));
/* 'dropped_video' */
"""
_EXAMPLES = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('[data-text]');
  if (chosen) trigger('chosen', {text: chosen.dataset.text});
});
"""
_RESULTS = """
element.addEventListener('click', event => {
  const like = event.target.closest('[data-like]');
  if (like) trigger('more', {row: like.dataset.like});
});
"""


def mount(site: FastAPI, options: AppConfig, asking: Asking) -> None:
    """Put the page at `/` of `site`, behind the routes that are there."""
    gr.mount_gradio_app(
        site,
        _blocks(options, asking),
        path="/",
        server_name=options.host,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        # Uploads have a route of their own.
        max_file_size=1,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        favicon_path=str(_STATIC / "favicon.svg"),
        theme=_theme(),
        css=(_STATIC / "page.css").read_text(encoding="utf-8"),
        head=f"<script>{(_STATIC / 'page.js').read_text(encoding='utf-8')}</script>",
    )


def _theme() -> Any:
    # Fonts of the machine: a name alone, so that Gradio fetches none.
    return gr.themes.Base(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=list(_FONTS),
        font_mono=list(_MONO),
    )


def _blocks(options: AppConfig, asking: Asking) -> Any:
    about = asking.about
    some = sample(asking.index)
    asking.warm()
    texts = examples(options.example, some) if about.has_text else []
    with gr.Blocks(title=options.title, analytics_enabled=False, fill_width=True) as blocks:
        _html(cards.header(options.title, about), elem_id="ve-header")
        with gr.Column(elem_id="ve-form"):
            with gr.Row(elem_id="ve-ask"):
                text = gr.Textbox(
                    visible=about.has_text,
                    placeholder="Describe what to find …",
                    show_label=False,
                    container=False,
                    max_lines=1,
                    elem_id="ve-text",
                )
                go = gr.Button(
                    "Search",
                    variant="primary",
                    scale=0,
                    visible=about.has_text,
                    elem_id="ve-go",
                )
            offered = _html(
                cards.examples(texts),
                visible=bool(texts),
                js_on_load=_EXAMPLES,
                elem_id="ve-examples",
            )
            drop = _html(cards.drop(about, asking.most_bytes), js_on_load=_DROP, elem_id="ve-drop")
            with gr.Row(elem_id="ve-wishes"):
                chosen = gr.Textbox(
                    label="Filter",
                    placeholder=f"{filter_hint(some)}start_s < 60",
                    max_lines=1,
                    scale=3,
                    elem_id="ve-filter",
                )
                top = gr.Slider(
                    1, max(_MOST_TOP, options.top), options.top, step=1,
                    label="Results", scale=2, elem_id="ve-top",
                )  # fmt: skip
                group = gr.Checkbox(
                    label="Best segment of each video only", scale=1, elem_id="ve-group"
                )
        results = _html(
            cards.start(about, some[:_AT_START]), js_on_load=_RESULTS, elem_id="ve-results"
        )
        last = gr.State(None)
        _connect(
            _Handlers(asking),
            sources={"text": text, "go": go, "offered": offered, "drop": drop},
            wishes=[chosen, top, group],
            outputs=[last, results],
        )
    return blocks


def _html(drawn: str, **options: Any) -> Any:
    """A part that is drawn here, in our own style."""
    return gr.HTML(drawn, apply_default_css=False, **options)


def _connect(
    handlers: _Handlers, *, sources: dict[str, Any], wishes: list[Any], outputs: list[Any]
) -> None:
    """Which event asks what. outputs: the last query, and where its answer goes."""
    last, results = outputs
    text = sources["text"]
    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_limit": _AT_ONCE,
        "concurrency_id": "search",
    }
    for event in (text.submit, sources["go"].click):
        event(handlers.text, [text, *wishes], outputs, **quiet)
    sources["offered"].chosen(handlers.example, wishes, [text, *outputs], **quiet)
    sources["drop"].dropped_video(handlers.video, wishes, outputs, **quiet)
    results.more(handlers.more, wishes, outputs, **quiet)
    chosen, top, group = wishes
    for event in (chosen.submit, top.release, group.input):
        event(handlers.again, [last, *wishes], outputs, **quiet)


class _Handlers:
    """What an event does: first a sketch of the answer, so that something is seen, then it."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def text(self, words: str, *wishes: Any) -> Iterator[tuple[Any, ...]]:
        words = words.strip()
        if not words:
            yield gr.skip(), cards.nothing_typed()
            return
        yield from self._found(Query(kind="text", value=words, shown=f"“{words}”"), wishes)

    def example(self, event: gr.EventData, *wishes: Any) -> Iterator[tuple[Any, ...]]:
        words = str(event.text)
        for outputs in self.text(words, *wishes):
            yield words, *outputs

    def video(self, event: gr.EventData, *wishes: Any) -> Iterator[tuple[Any, ...]]:
        query = Query(kind="video", value=str(event.token), shown=str(event.name))
        yield from self._found(query, wishes)

    def more(self, event: gr.EventData, *wishes: Any) -> Iterator[tuple[Any, ...]]:
        row = str(event.row)
        yield from self._found(Query(kind="like", value=row, shown=row), wishes)

    def again(self, last: Query | None, *wishes: Any) -> Iterator[tuple[Any, ...]]:
        if last is None:
            yield gr.skip(), gr.skip()
            return
        yield from self._found(last, wishes)

    def _found(self, query: Query, wishes: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        chosen, top, group = wishes
        wanted = Wishes(top=int(top), filter=str(chosen or ""), group=bool(group))
        yield query, cards.loading(query.shown, wanted.top)
        yield query, cards.answer(self._asking.answer(query, wanted), self._asking.about)
