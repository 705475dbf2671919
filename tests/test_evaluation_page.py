"""evaluation.html: what stands on it is what was measured, whatever its texts say."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.helpers.evaluated import KS, SCHEMA, evaluated
from tests.helpers.runs import good, write_run
from vidembed import metrics
from vidembed.access import Access
from vidembed.evaluation import thumbnails
from vidembed.evaluation.examples import choose, pictures
from vidembed.evaluation.thumbnails import Studio, places, small
from vidembed.pages import evaluation, report
from vidembed.pages.evaluation_charts import recall_at
from vidembed.pages.gallery import Picture
from vidembed.pages.plots import Axis
from vidembed.report import RunReport
from vidembed.synthetic.codec import write_video

VOID = {"meta", "img", "link", "br", "hr", "input"}
DIRECTIONS = ["text_to_video", "video_to_text", "video_to_video"]


class Page(HTMLParser):
    """The elements of a page; one that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join(self._cell or []))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None and data.strip():
            self._cell.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def row(self, head: str) -> list[str]:
        (found,) = [row[1:] for row in self.rows if row[:1] == [head]]
        return found


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("made") / "run", corpus)


@pytest.fixture(scope="module")
def shown(made):
    return pictures(made.run, choose(made.rows, 24), [])


@pytest.fixture(scope="module")
def page(made, shown):
    return evaluation.render(made.result, made.rows, shown)


def test_the_numbers_on_the_page_are_those_of_the_json(made, page):
    table = made.result["text_to_video"]
    expected = []
    for k in KS:
        low, high = table["ci95"][f"R@{k}"]
        expected.append(f"{table[f'R@{k}']:.3f} {low:.3f}–{high:.3f}")
    row = Page(page).row("text → video")
    assert row[:3] == expected
    assert row[3:] == [
        f"{table['MdR']:.1f}".removesuffix(".0"),
        f"{table['MnR']:.1f}",
        f"{table['MRR']:.3f}",
        "24",
        "24",
    ]


def test_metrics_of_many_right_answers_stand_in_a_row_each(made, page):
    parsed = Page(page)
    assert parsed.row("mHR") == ["0.250", "0.500", "–"]
    assert parsed.row("mAP") == ["–", "0.625", "–"]
    assert parsed.row("R")[1].startswith(f"{made.result['video_to_video']['R@5']:.3f} ")


def test_post_processings_and_reranked_stand_beside_the_raw_ranking(made):
    raw = made.result["text_to_video"]
    result = made.result | {
        "text_to_video": raw | {"dual_softmax": raw | {"R@1": 0.111}},
        "text_to_video_reranked": raw | {"R@1": 0.222, "rerank_top": 50},
    }
    ranks = pa.array([1.0 if d == "text_to_video" else None for d in direction_of(made.rows)])
    rows = made.rows.append_column("reranked", ranks)
    found = evaluation.render(result, rows, choose(rows, 3))
    parsed = Page(found)
    assert parsed.row("text → video, dual softmax")[0].startswith("0.111")
    assert parsed.row("text → video, re-ranked")[0].startswith("0.222")
    assert ", re-ranked 1\n" in found.replace("</span>", "\n")
    # Its line is the fourth of the recall curve, at the top from the first k on.
    (line,) = re.findall(r'points="([^"]+)"><title>text → video, re-ranked<', found)
    assert {float(p.partition(",")[2]) for p in line.split()} == {0.0}


def direction_of(rows):
    return rows["direction"].to_pylist()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_curve_goes_through_the_recalls_of_the_table(made, page, direction):
    name = direction.replace("_to_", " → ")
    (line,) = re.findall(rf'points="([^"]+)"><title>{name}<', page)
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    x = Axis(label="", low=1, high=24, length=420, log=True)
    for k in KS:
        (y,) = [y for at, y in points if at == x.at(k)]
        assert 1 - y / 250 == pytest.approx(made.result[direction][f"R@{k}"], abs=0.001)
    assert points[-1] == (420, 0)


@pytest.mark.parametrize("rule", ["reference", "middle"])
@pytest.mark.parametrize("several", [False, True])
def test_the_curve_counts_ties_as_the_metrics_do(rule, several):
    rng = np.random.default_rng(3)
    rank = rng.integers(1, 30, 50).astype(np.float64)
    rank[:4] = np.inf
    ties = np.where(np.isinf(rank), 0, rng.integers(0, 6, 50))
    relevant = [[f"v{at // 2 if several else at}"] for at in range(50)]
    known = [None if np.isinf(r) else r for r in rank]
    rows = pa.table(
        {"direction": ["text_to_video"] * 50, "rank": known, "ties": ties, "relevant": relevant}
    )
    ks = [1, 2, 5, 10, 34]
    table = metrics.retrieval(rank, ties, gallery=40, ks=ks, rule=rule, several=several)
    assert recall_at(rows, ks, rule).tolist() == pytest.approx([table[f"R@{k}"] for k in ks])


def test_videos_that_find_videos_count_ties_by_the_middle_whatever_the_rule():
    rows = pa.table(
        {
            "direction": ["video_to_video"] * 2,
            "rank": [1.0, 4.0],
            "ties": [2, 0],
            "relevant": [["a"], ["b"]],
        }
    )
    assert recall_at(rows, [1, 2, 4], "reference").tolist() == [0, 0.5, 1]


def test_the_bars_of_the_histogram_are_all_queries(made, page):
    for direction in DIRECTIONS:
        part = [row for row in made.rows.to_pylist() if row["direction"] == direction]
        chart = re.search(rf'id="ranks-{direction}-svg".*?</svg>', page, re.DOTALL)[0]
        counts = [int(n) for n in re.findall(r"<title>rank [^:]+: (\d+) queries", chart)]
        assert sum(counts) == len(part)
        assert counts[0] == sum(row["rank"] == 1 for row in part)
        assert counts[2] == sum(4 <= row["rank"] <= 7 for row in part)


def test_queries_that_the_index_did_not_answer_have_a_bar_and_no_rank(made):
    ranks = [None] * 20 + made.rows["rank"].to_pylist()[20:]
    rows = made.rows.set_column(4, "rank", pa.array(ranks, pa.float64()))
    table = made.result["text_to_video"] | {"MdR": None, "MnR": None}
    found = evaluation.render(made.result | {"text_to_video": table}, rows, choose(rows, 9))
    assert "rank none: 20 queries" in found
    assert "median: not found" in found
    assert "not given back by the index" in found
    assert Page(found).row("text → video")[3:5] == ["–", "–"]


def test_breakdowns_have_a_bar_for_each_value_and_the_whole(made, page):
    parsed = Page(page)
    for value, table in made.result["text_to_video"]["by"]["color"].items():
        assert parsed.row(value) == [str(table["queries"]), *(f"{table[f'R@{k}']:.3f}" for k in KS)]
    assert parsed.row("all")[0] == "24"
    widths = [a["style"] for a in parsed.of("td") if "style" in a]
    assert f"--share: {made.result['text_to_video']['R@5'] * 100:.1f}%" in widths


def test_of_many_values_the_commonest_are_shown_and_the_others_counted(made):
    values = {f"v{k}": {"R@1": 0.5, "queries": 100 - k} for k in range(60)}
    table = made.result["text_to_video"] | {"by": {"label": values}}
    found = evaluation.render(made.result | {"text_to_video": table}, made.rows, [])
    assert Page(found).row("v23")[0] == "77"
    assert ">v24<" not in found
    assert "36 rarer values are in evaluation.json." in found


def test_what_was_left_out_is_counted_by_its_reason(page):
    assert re.search(r"the video is not in the run</span> \(<b>3</b>\)", page)
    assert "no text" not in page


def test_every_drawing_has_a_title_and_a_description_and_every_picture_a_text(page):
    parsed = Page(page)
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    drawings = [a for a in parsed.of("svg") if "aria-hidden" not in a]
    assert len(drawings) == 4
    for attrs in drawings:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    assert all(attrs["alt"] for attrs in parsed.of("img"))
    assert all("scope" in attrs for attrs in parsed.of("th"))


def test_the_page_needs_no_network(page):
    parsed = Page(page)
    places = [v for _, attrs in parsed.elements for k, v in attrs.items() if k in ("src", "href")]
    assert places
    assert all(place.startswith("data:image/jpeg;base64,") for place in places)
    assert not re.search(r"url\(|@import|<script|<link", page)


def test_hits_and_misses_show_the_right_video_and_its_rank(made, shown, page):
    miss = next(e for e in shown if e.direction == "text_to_video" and e.wanted)
    assert not any(answer.right for answer in miss.answers)
    assert miss.wanted.id == miss.query_id
    assert miss.wanted.picture.jpeg
    assert f"rank {miss.rank:.0f} of 24" in page
    assert f"✓ the right one, rank {miss.rank:.0f}" in page
    hit = next(e for e in shown if e.kind == "hit")
    assert hit.answers[0].right
    assert hit.answers[0].caption
    assert hit.rank == 1


def test_texts_that_a_video_found_are_shown_in_their_words(shown):
    found = next(e for e in shown if e.direction == "video_to_text")
    assert found.picture.jpeg
    for answer in found.answers:
        assert answer.caption
        assert answer.caption != answer.id


def test_videos_that_find_videos_show_what_they_have_in_common(made, shown, page):
    found = next(e for e in shown if e.direction == "video_to_video" and e.kind == "hit")
    assert found.label
    assert [a.right for a in found.answers] == [a.label == found.label for a in found.answers]
    assert f'<b class="of" dir="auto">{found.label}</b>' in page


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onclick='a",
    "‮ olleh ‫ שלום",
    "wide" * 5000,
    "nul \x00 and \x1b[31m red",
    "{{ 7 * 7 }} {% raw %}",
]


def test_hostile_texts_are_only_texts(made, shown):
    first = shown[0]
    for text in HOSTILE:
        answers = tuple(replace(a, id=text, caption=text, label=text) for a in first.answers)
        example = replace(
            first,
            query=text,
            query_id=text,
            caption=text,
            label=text,
            answers=answers,
            wanted=answers[0],
        )
        by = {text: {text: {"R@1": 0.5, "queries": 1}}}
        result = made.result | {
            "run": text,
            "encoder": text,
            "left_out": {text: 1},
            "text_to_video": made.result["text_to_video"] | {"by": by},
        }
        others = [replace(e, query=text, caption=text) for e in shown if e.picture]
        broken = [replace(e, picture=Picture(reason=text)) for e in others[:1]]
        parsed = Page(evaluation.render(result, made.rows, [example, *others, *broken]))
        assert not parsed.of("script")
        assert not [k for _, attrs in parsed.elements for k in attrs if k.startswith("on")]
        assert all(a["src"].startswith("data:") for a in parsed.of("img"))
        assert max(len(a["alt"]) for a in parsed.of("img")) < 400


def test_hostile_texts_are_shown_as_they_are_but_cut(made, shown):
    def render(text):
        examples = [replace(shown[0], query=text)]
        return evaluation.render(made.result, made.rows, examples)

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in render(HOSTILE[0])
    assert 'dir="auto">‮ olleh ‫ שלום</span>' in render(HOSTILE[2])
    assert len(render(HOSTILE[3])) - len(render("")) < 400
    assert "\x1b" not in render(HOSTILE[4])
    assert "{{ 7 * 7 }}" in render(HOSTILE[5])


def test_videos_alone_make_a_page(made):
    result, rows = made.only("video_to_video")
    examples = pictures(made.run, choose(rows, 6), [])
    found = evaluation.render(result, rows, examples)
    parsed = Page(found)
    assert len(examples) == 6
    assert len(parsed.of("article")) == 6
    assert "Texts and their videos" not in found
    assert len([a for a in parsed.of("svg") if "aria-hidden" not in a]) == 2
    assert parsed.of("img")


def sweep(ef: int) -> dict:
    return {
        "params": {"ef": ef},
        "ann_recall": {"@1": 1 - 0.1 / ef, "@10": 1 - 1 / ef},
        "R@1": 0.4,
        "latency_ms": {"mean": 0.01 * ef, "p50": 0.02 * ef, "p95": 0.05 * ef, "p99": 0.09 * ef},
        "queries_per_s": 1000.0 / ef,
    }


def test_a_sweep_is_a_curve_and_a_table_and_milvus_stands_beside_exact(made):
    steps = [sweep(ef) for ef in (8, 16, 64)]
    # A setting that gives back fewer than k has no recall there.
    steps[0]["ann_recall"] = {"@10": 0.875}
    exact = {k: v for k, v in made.result["text_to_video"].items() if k not in ("by", "ci95")}
    result = made.result | {
        "backend": "milvus",
        "exact": {"text_to_video": exact | {"R@1": 0.99}},
        "milvus": {
            "collection": "videos",
            "uri": "/data/milvus.db",
            "index": {"index_type": "HNSW", "params": {"M": 16}},
            "search_params": {"ef": 16},
            "rows": 24,
            "ann_recall": {"@10": 0.9375},
            "latency_ms": {"mean": 0.2, "p50": 0.32, "p95": 0.8, "p99": 1.4},
            "queries_per_s": 62.5,
            "sweep": steps,
        },
    }
    found = evaluation.render(result, made.rows, [])
    parsed = Page(found)
    assert parsed.row("ef 16") == ["0.9938", "0.9375", "0.400", "0.32", "0.80", "1.44", "62"]
    assert parsed.row("ef 8")[:2] == ["–", "0.8750"]
    drawn = re.search(r'id="sweep-svg".*?</svg>', found, re.DOTALL)[0]
    assert ">index_type HNSW, params M 16<" in found
    assert "ef 64: ANN recall@10 0.9844, p95 3.20 ms" in drawn
    assert re.findall(r">(ef \d+)</text>", drawn) == ["ef 8", "ef 16", "ef 64"]
    gap = made.result["text_to_video"]["R@1"] - 0.99
    assert parsed.row("text → video, R@1")[2] == f"{gap:+.3f}"
    # Without a sweep there is no curve, and the rest stands.
    result["milvus"] = result["milvus"] | {"sweep": []}
    found = evaluation.render(result, made.rows, [])
    assert "sweep-svg" not in found
    assert "0.9375" in found


def test_a_video_that_cannot_be_read_any_more_says_why(corpus, tmp_path):
    names = [f"held_out_7_{at:05d}" for at in range(24)]
    gone = {name: {"uri": str(tmp_path / "gone.mp4")} for name in names[:12]}
    made = evaluated(tmp_path / "run", corpus, **gone)
    examples = pictures(made.run, choose(made.rows, 24), [])
    shown = {a.id: a.picture for e in examples for a in e.answers if a.picture}
    assert {name for name, picture in shown.items() if picture.jpeg is None} == (
        shown.keys() & set(names[:12])
    )
    reason = "NotFound: nothing is at that path or address"
    assert {picture.reason for picture in shown.values()} == {"", reason}
    assert f'<span class="nothing">{reason}</span>' in evaluation.render(
        made.result, made.rows, examples
    )


def test_files_that_no_root_covers_are_not_opened(made, tmp_path):
    examples = pictures(made.run, choose(made.rows, 3), [str(tmp_path)])
    reasons = {a.picture.reason.partition(":")[0] for e in examples for a in e.answers if a.picture}
    assert reasons == {"Forbidden"}


def test_ids_that_the_run_does_not_hold_are_no_error(made):
    (example,) = choose(made.rows, 1)
    example = replace(example, answers=(replace(example.answers[0], id="never"),), wanted=None)
    (found,) = pictures(made.run, [example], [])
    assert found.answers[0].picture.reason == "not in the run"


def test_pictures_are_of_the_middle_of_the_window_and_in_proportion(tmp_path):
    frames = np.zeros((20, 96, 48, 3), np.uint8)
    frames[8:] = 255
    write_video(tmp_path / "a.mp4", frames, 10, 20)
    row = good("a", [1, 0, 0, 0]) | {"uri": str(tmp_path / "a.mp4")}
    windows = {"dark": (0.0, 0.8), "light": (0.0, 2.0)}
    rows = [
        row | {"video_id": name, "id": name, "start_s": start, "end_s": end}
        for name, (start, end) in windows.items()
    ]
    run = write_run(tmp_path / "run", rows)
    found = places(run, ["dark", "light", "absent"])
    assert found.keys() == {"dark", "light"}
    access = Access.of(run.uri)
    with Studio() as studio:
        dark, light = (studio.picture(found[name], access) for name in ("dark", "light"))
    assert (dark.width, dark.height) == (80, 160)
    brightness = [
        np.asarray(Image.open(io.BytesIO(p.jpeg)).convert("L")).mean() for p in (dark, light)
    ]
    assert brightness[0] < 20
    assert brightness[1] > 235


def test_a_video_in_segments_is_shown_as_its_whole(tmp_path):
    rows = [good("a", [1, 0, 0, 0], segment, 4) for segment in range(4)]
    found = places(write_run(tmp_path / "run", rows), ["a"])
    assert (found["a"].start_s, found["a"].end_s) == (0.0, 4.0)
    assert found["a"].caption == "this is a"


def test_a_video_is_decoded_once_and_no_more_than_so_many(made, monkeypatch):
    taken = []
    real = Studio._decoded

    def noted(self, place, access):
        taken.append(place.uri)
        return real(self, place, access)

    monkeypatch.setattr(Studio, "_decoded", noted)
    pictures(made.run, choose(made.rows, 24), [])
    assert len(taken) == len(set(taken)) == 24
    monkeypatch.setattr(Studio.__init__, "__defaults__", (5, thumbnails.SECONDS))
    found = pictures(made.run, choose(made.rows, 24), [])
    known = [a.picture for e in found for a in e.answers if a.picture]
    assert len({p.jpeg for p in known if p.jpeg}) <= 5
    assert any("enough pictures" in p.reason for p in known)


def test_a_picture_that_is_all_noise_is_still_small():
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    for width, height in ((1920, 1080), (1080, 1920), (640, 640)):
        picture = small(noise, width, height)
        assert len(picture.jpeg) <= 6000
        assert max(Image.open(io.BytesIO(picture.jpeg)).size) == 160


def test_a_page_of_24_examples_is_below_2_megabytes(made, shown):
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    picture = small(noise, 640, 640)
    heavy = []
    for example in shown:
        answers = tuple(replace(a, picture=picture, caption="w" * 9000) for a in example.answers)
        wanted = replace(answers[0], right=True)
        heavy.append(replace(example, answers=answers, wanted=wanted, picture=picture))
    found = evaluation.render(made.result, made.rows, heavy)
    assert len(heavy) == 24
    assert 100_000 < len(found.encode()) < 2_000_000


def test_examples_are_misses_near_misses_and_hits_of_each_direction(made):
    examples = choose(made.rows, 12)
    assert len(examples) == 12
    assert examples == choose(made.rows, 12)
    assert [e.direction for e in examples] == [name for name in DIRECTIONS for _ in range(4)]
    for direction in DIRECTIONS:
        assert {e.kind for e in examples if e.direction == direction} == {"miss", "near", "hit"}
    for e in examples:
        right = (
            e.rank == 1
            if e.kind == "hit"
            else 1 < e.rank <= 10
            if e.kind == "near"
            else e.rank > 10
        )
        assert right
    worst = max(row["rank"] for row in made.rows.to_pylist() if row["direction"] == "text_to_video")
    assert examples[0].rank == worst
    assert choose(made.rows, 0) == []
    assert len(choose(made.rows, 1000)) == len(made.rows)


def test_captions_of_one_video_do_not_fill_the_page():
    rows = [
        {"direction": "text_to_video", "query_id": str(k), "query": f"q{k}", "rank": 90.0 - k // 8,
         "ties": 0, "relevant": [f"v{k // 8}"], "top": ["x"], "scores": [0.5]}
        for k in range(32)
    ]  # fmt: skip
    found = choose(pa.Table.from_pylist(rows, schema=SCHEMA), 4)
    assert [e.wanted.id for e in found] == ["v0", "v1", "v2", "v3"]
    assert [e.query_id for e in found] == ["0", "8", "16", "24"]


def test_a_tie_for_the_first_place_is_no_hit():
    row = {"direction": "text_to_video", "query_id": "q", "query": "q", "relevant": ["a"],
           "rank": 1.0, "ties": 3, "top": ["b", "a"], "scores": [0.5, 0.5]}  # fmt: skip
    (example,) = choose(pa.Table.from_pylist([row], schema=SCHEMA), 1)
    assert (example.kind, example.rank) == ("near", 2.5)


def test_the_report_of_a_run_is_a_page_of_the_same_kind():
    found = RunReport(
        out="<b>run</b>", encoder="x", fingerprint="f", videos=12345, done_before=0, embedded=12344,
        failed=1, clips=1, failures={"NotFound": 1},
        failure_examples=[{"video_id": "<i>", "error": "NotFound", "message": "<u>"}],
        seconds=4.0, videos_per_s=1.0, clips_per_s=1.0,
        stages={"decode": {"workers": 1, "busy_s": 1.0, "busy_share": 0.5, "clips": 3}},
        decode={"wanted": 9, "decoded": 9, "read_bytes": 0, "counted": 0}, bottleneck="decode",
        timeline={"bucket_s": 1.0, "clips_per_s": {"decode": [0.0, 8.0, 4.0], "write": [0.0, 2.0]}},
        object_store={"limit_bytes": 4 * 10**9, "peak_bytes": 10**9, "fullest_share": 0.5,
                      "spilled_bytes": 0},
        milvus=None, max_failures="100%", too_many_failures=False, versions={}, started="now",
    )  # fmt: skip
    text = report.render(found, [("<s>", b"jpeg")])
    parsed = Page(text)
    assert "12,345" in text
    assert 'points="0,200 380,0 760,100"><title>decode<' in text
    assert "&lt;b&gt;run&lt;/b&gt;" in text
    assert not {"i", "u", "s"} & {tag for tag, _ in parsed.elements}
