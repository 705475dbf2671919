"""The page in a real Chromium: what its users see and do.

`VIDEMBED_SCREENSHOTS=1 pytest tests/test_app_page.py` also draws the pictures of docs/app.md anew.
"""

from __future__ import annotations

import csv
import os
import re
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.helpers import pages
from tests.helpers.gallery import STAR, make_gallery
from tests.helpers.page import App, Video, embed_here
from tests.helpers.runs import good, write_run
from vidembed.encode import registry
from vidembed.synthetic import write_corpus
from vidembed.synthetic.corpus import CorpusFormat

CHROMIUM = pages.need_chromium()

from playwright.sync_api import expect, sync_playwright  # noqa: E402

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-sync")  # fmt: skip
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
IMAGES = ROOT / "docs" / "images"
_MOST_BYTES = 300_000
# The documentation's encoder of one's own.
EXAMPLE = re.search(
    r"^```python\n(.*?)^```", (ROOT / "docs/own-encoder.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return make_gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def app(gallery, tmp_path_factory):
    words = ("--run", gallery.run.uri, "--title", "Drawn shapes", "--max-upload", "1")
    with App(tmp_path_factory.mktemp("app"), *words) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Opens a page; at the end, nothing was asked of another host and no script has failed."""
    seen: list[str] = []
    wrong: list[str] = []

    @contextmanager
    def visit(app, **options):
        context = browser.new_context(viewport=options.pop("viewport", WIDE), **options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("request", lambda request: seen.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(app.url)
        page.locator("#ve-results .ve-state").wait_for()
        yield page
        context.close()

    yield visit
    hosts = {urlsplit(url).hostname for url in seen if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert wrong == []


def search(page, text: str) -> None:
    page.locator("#ve-text").locator("input, textarea").fill(text)
    page.keyboard.press("Enter")
    expect(state(page)).to_contain_text(text)


def state(page, name: str = "found"):
    return page.locator(f"#ve-results [data-state={name}]")


def ids(page) -> list[str]:
    return [card.get_attribute("data-row") for card in page.locator(".ve-card[data-row]").all()]


def card(page, row: str):
    return page.locator(f'.ve-card[data-row="{row}"]')


def test_a_query_finds_its_segment_which_plays_from_its_second(opened, app):
    with opened(app) as page:
        assert page.locator("#ve-header h1").inner_text() == "Drawn shapes"
        about = page.locator(".ve-about").inner_text()
        for word in ("run", "clip4clip-tiny", app.said[0].split("(")[1][:12], "10"):
            assert word in about
        expect(page.locator("#ve-results")).to_contain_text("What are you looking for?")
        search(page, STAR)
        assert ids(page)[0] == "reel#1"
        first = card(page, "reel#1")
        expect(first).to_contain_text("0:03 – 0:06")
        first.locator(".ve-play").click()
        video = first.locator("video")
        # Enough is there to play on, and it is this segment that plays.
        page.wait_for_function("document.querySelector('video').readyState >= 3")
        began = video.evaluate("video => video.currentTime")
        assert 2.9 <= began < 5.0
        page.wait_for_function(f"document.querySelector('video').currentTime > {began} + 0.4")
        assert video.evaluate("video => [video.paused, video.error]") == [False, None]
        # Not one on top of another.
        card(page, "heart").locator(".ve-play").click()
        expect(page.locator("video")).to_have_count(1)
        expect(card(page, "heart").locator("video")).to_have_count(1)


def test_the_playing_stops_where_the_segment_ends(opened, app):
    with opened(app) as page:
        search(page, STAR)
        card(page, "reel#1").locator(".ve-play").click()
        page.wait_for_function("document.querySelector('video').readyState >= 3")
        page.evaluate("document.querySelector('video').playbackRate = 2")
        page.wait_for_function("document.querySelector('video').paused")
        video = page.locator("video")
        at, length = video.evaluate("video => [video.currentTime, video.duration]")
        assert 5.7 < at < length - 0.5


def test_an_uploaded_clip_finds_itself_first(opened, app, gallery):
    with opened(app) as page:
        page.locator(".ve-file").set_input_files(gallery.file("heart.mp4"))
        expect(state(page)).to_contain_text("heart.mp4")
        assert ids(page)[0] == "heart"
        score = card(page, "heart").locator(".ve-score").inner_text()
        assert float(score) == pytest.approx(1, abs=1e-3)


def test_a_dropped_file_that_is_no_video_is_named_and_its_place_is_not(opened, app, gallery):
    with opened(app) as page:
        page.locator(".ve-file").set_input_files(gallery.file("secret.txt"))
        error = state(page, "error")
        expect(error).to_contain_text("secret.txt")
        expect(error).to_contain_text("Try another file")
        assert "vidembed-app" not in error.inner_text()


def test_a_file_that_is_too_large_is_not_sent(opened, app, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(1_000_001))
    with opened(app) as page:
        page.locator(".ve-file").set_input_files(large)
        expect(page.locator(".ve-drop")).to_contain_text("larger than 1 MB")


def test_more_like_this_leaves_the_video_itself_out(opened, app):
    with opened(app) as page:
        search(page, "a purple ring")
        assert ids(page)[0] == "ring"
        card(page, "ring").locator(".ve-like").click()
        expect(state(page)).to_contain_text("Videos like ring")
        # It has the same frames under another name, which is the nearest now.
        assert "ring" not in ids(page)
        assert len(ids(page)) > 3


def test_a_filter_holds_and_a_wrong_one_is_explained(opened, app):
    with opened(app) as page:
        search(page, "a shape")
        chosen = page.locator("#ve-filter").locator("input, textarea")
        chosen.fill("color == 'pink'")
        chosen.press("Enter")
        expect(page.locator(".ve-card[data-row]")).to_have_count(1)
        assert ids(page) == ["heart"]
        # What stands in a row is shown, and is no part of the page.
        assert "<b>bounces</b>" in card(page, "heart").inner_text()
        chosen.fill("color = pink")
        chosen.press("Enter")
        expect(state(page, "error")).to_contain_text("Mend the filter")
        chosen.fill("n > 1000")
        chosen.press("Enter")
        expect(state(page, "nothing")).to_contain_text("Widen it")


def test_the_best_segment_of_each_video_and_how_many(opened, app):
    with opened(app) as page:
        search(page, STAR)
        assert sum(row.startswith("reel#") for row in ids(page)) == 3
        page.locator("#ve-group input").check()
        expect(page.locator('.ve-card[data-row^="reel#"]')).to_have_count(1)


def test_an_example_is_searched_for(opened, app):
    with opened(app) as page:
        offered = page.locator("#ve-examples [data-text]").first
        words = offered.get_attribute("data-text")
        offered.click()
        expect(state(page)).to_contain_text(words)
        assert page.locator("#ve-text").locator("input, textarea").input_value() == words


def test_nothing_typed_says_what_to_type(opened, app):
    with opened(app) as page:
        page.locator("#ve-go").click()
        expect(state(page, "untyped")).to_contain_text("Type what the video shows")


def test_a_card_says_what_is_wrong_with_its_video(opened, app):
    with opened(app) as page:
        search(page, "a shape")
        for row, words in (
            ("gone", "no longer there"),
            ("secret", "not a video"),
            ("old", "do not play AVI"),
        ):
            card(page, row).scroll_into_view_if_needed()
            expect(card(page, row).locator(".ve-note")).to_contain_text(words)
        assert card(page, "gone").locator(".ve-play").count() == 0
        save = card(page, "old").locator(".ve-note a")
        assert save.get_attribute("href") == "media/old"


def test_a_video_that_the_browser_cannot_play_says_so(opened, app):
    with opened(app) as page:
        search(page, "a shape")
        damaged = card(page, "damaged")
        damaged.scroll_into_view_if_needed()
        expect(damaged.locator(".ve-note")).to_be_visible()
        damaged.locator(".ve-play").click()
        expect(damaged.locator(".ve-note")).to_contain_text("cannot play")
        expect(damaged.locator("video")).to_have_count(0)


def test_a_path_traversal_is_refused_in_the_browser_too(opened, app):
    with opened(app) as page:
        for path in (
            "media/..%2f..%2f..%2fetc%2fpasswd",
            "media/../../etc/passwd",
            "gradio_api/file=/etc/passwd",
            "gradio_api/file=..%2f..%2fetc%2fpasswd",
        ):
            fetched = (
                "async path => { const a = await fetch(path); return [a.status, await a.text()] }"
            )
            status, text = page.evaluate(fetched, path)
            assert status == 404, path
            assert "root:" not in text
        page.goto(f"{app.url}/media/..%2f..%2f..%2fetc%2fpasswd")
        assert "root:" not in page.content()


def test_dark_and_narrow_it_fits_its_screen(opened, app):
    with opened(app, viewport=NARROW, color_scheme="dark") as page:
        search(page, STAR)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 0
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(int(n) for n in back.strip("rgba()").split(",")[:3]) < 150


def test_two_users_do_not_see_each_others_answers(opened, app):
    with opened(app) as one, opened(app) as two:
        search(one, "a purple ring")
        search(two, "a pink heart")
        assert (ids(one)[0], ids(two)[0]) == ("ring", "heart")
        expect(state(one)).to_contain_text("a purple ring")


def test_an_encoder_without_words_has_no_text_box_and_says_why(opened, tmp_path, monkeypatch):
    without = EXAMPLE[1].replace("context_length=1", "context_length=0")
    assert without != EXAMPLE[1]
    (tmp_path / "colours_of.py").write_text(without)
    monkeypatch.syspath_prepend(tmp_path)
    spec = registry.describe("colours_of:ColourHistogram", None)
    places = np.eye(3, spec.dim, dtype=np.float32) + 0.1
    rows = [good(name, place) for name, place in zip("abc", places, strict=True)]
    run = write_run(tmp_path / "run", rows, spec)
    with App(tmp_path, "--run", run.uri, modules=tmp_path) as app, opened(app) as page:
        expect(page.locator("#ve-text")).to_be_hidden()
        expect(page.locator(".ve-reason")).to_contain_text("no text tower")
        card(page, "b").locator(".ve-like").click()
        expect(state(page)).to_contain_text("Videos like b")
        assert sorted(ids(page)) == ["a", "c"]


@pytest.mark.skipif("VIDEMBED_SCREENSHOTS" not in os.environ, reason="VIDEMBED_SCREENSHOTS asks")
def test_the_pictures_of_the_documentation(opened, tmp_path):
    form = CorpusFormat(height=180, width=320, seconds=(5.0, 7.0))
    manifest = write_corpus(tmp_path / "corpus", 24, seed=11, form=form)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    videos = [
        Video(row["video_id"], str(manifest.parent / row["uri"]), row["caption"], row["color"], 3.0)
        for row in rows
    ]
    run = embed_here(tmp_path / "shapes", videos)
    words = ("--run", run.uri, "--title", "Drawn shapes", "--example", "a blue square,a ring")
    with App(tmp_path, *words) as app:
        with opened(app) as page:
            picture(page, "app-start")
            search(page, rows[3]["caption"])
            picture(page, "app-results")
            chosen = page.locator("#ve-filter").locator("input, textarea")
            chosen.fill("colour == 'red'")
            chosen.press("Enter")
            expect(state(page, "error")).to_be_visible()
            picture(page, "app-error")
        with opened(app, color_scheme="dark") as page:
            search(page, rows[5]["caption"])
            page.locator(".ve-play").first.click()
            page.wait_for_function("document.querySelector('video').readyState >= 3")
            picture(page, "app-playing-dark")
        with opened(app, viewport=NARROW) as page:
            search(page, rows[5]["caption"])
            picture(page, "app-narrow")


def picture(page, name: str) -> None:
    """A picture for the documentation."""
    page.wait_for_function(
        """[...document.querySelectorAll('.ve-stage img')]
        .filter(image => image.getBoundingClientRect().top < innerHeight)
        .every(image => image.complete && image.naturalWidth)"""
    )
    page.wait_for_timeout(500)
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(192).save(path, optimize=True)
    assert path.stat().st_size < _MOST_BYTES
