"""tightTransf: pairs of text and video scored from frames, and searches ranked again by it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import vidembed
from tests.helpers import checkpoints as make
from tests.helpers.runs import good, write_run
from tests.helpers.videos import write_video
from vidembed import cli
from vidembed.encode import registry
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, read_merges
from vidembed.errors import ConfigError, WeightsError

TEXTS = ["a dog runs", "two people cook", "rain"]
QUERY = "a cat sleeps"
NAMES = "abcde"
# Of scores around 10, in float32.
CLOSE = 5e-5


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rerank")


@pytest.fixture(scope="module")
def state():
    return make.reference_state("tightTransf", seed=2)


@pytest.fixture(scope="module")
def tight(folder, state):
    return str(make.write_reference(folder / "pytorch_model.bin.tight.4", state))


@pytest.fixture(scope="module")
def reranker(tight):
    return vidembed.load_reranker(tight, device="cpu")


@pytest.fixture(scope="module")
def weights(folder):
    return str(make.write_reference(folder / "pytorch_model.bin.0", make.reference_state()))


@pytest.fixture(scope="module")
def spec(weights):
    return registry.describe("clip4clip", weights)


@pytest.fixture(scope="module")
def videos(folder):
    """Five files of one to seven seconds at 24 frames a second."""
    made = {}
    for k, name in enumerate(NAMES):
        frames = 24 * (1 + k * 3 // 2)
        made[name] = write_video(folder / f"{name}.mp4", frames=frames, first=150 * k)
    return made


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer.from_merges(read_merges(CLIP_MERGES))


def row(name, uri, vector, start=0.0, end=600.0, segment=0, segments=1):
    found = good(name, vector, segment, segments)
    return found | {"uri": str(uri), "start_s": start, "end_s": end}


def near(query, *others):
    """Vectors whose cosines with the query fall from row to row."""
    draw = np.random.default_rng(0)
    found = []
    for weight in others:
        side = draw.normal(size=len(query))
        side -= (side @ query) * query
        side /= np.linalg.norm(side)
        found.append(weight * query + np.sqrt(1 - weight**2) * side)
    return found


@pytest.fixture(scope="module")
def query_vector(spec):
    return registry.load(spec, "cpu", "float32").encode_text([QUERY])[0].astype(np.float64)


@pytest.fixture(scope="module")
def scores(reranker, videos):
    return {name: score_of_file(reranker, path) for name, path in videos.items()}


@pytest.fixture(scope="module")
def order(scores):
    """The names of the videos, worst score first."""
    return sorted(scores, key=scores.get)


@pytest.fixture
def run(tmp_path, spec, videos, query_vector, order):
    """The five videos; the nearest is the one with the worst score, and so on."""
    vectors = near(query_vector, 0.9, 0.8, 0.7, 0.6, 0.5)
    rows = [row(n, videos[n], v) for n, v in zip(order, vectors, strict=True)]
    return write_run(tmp_path / "run", rows, spec)


def clips(batch=3, frames=5, seed=1):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (batch, frames, 16, 16, 3), np.uint8)


def expected_scores(state, tokenizer, texts, frames, valid=None):
    count = frames.shape[1]
    mask = torch.arange(count)[None] < torch.tensor(valid or [count] * len(frames))[:, None]
    ids = torch.from_numpy(tokenizer.encode(texts, 32))
    return make.reference_scores(state, ids, torch.from_numpy(frames), mask).numpy()


def score_of_file(reranker, path, text=QUERY):
    """Read in this process, scored alone."""
    frames, _ = vidembed.read_frames(str(path), count=12, sampling="clip4clip")
    return float(reranker.score([text], frames[None])[0, 0])


# Scores of pairs


def test_scores_are_the_reference_s(reranker, state, tokenizer):
    frames, valid = clips(4), [5, 3, 1, 5]
    expected = expected_scores(state, tokenizer, TEXTS, frames, valid)
    found = reranker.score(TEXTS, frames, valid)
    assert found.shape == (3, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    assert np.ptp(expected, axis=1).min() > 0.05
    assert np.ptp(expected, axis=0).min() > 0.02


def test_scores_of_patches_that_span_frames_are_the_reference_s(folder, tokenizer):
    state = make.reference_state("tightTransf", spans_frames=True)
    other = vidembed.load_reranker(str(make.write_reference(folder / "3d.bin", state)))
    assert other.spec.architecture == "ViT-128/8 tightTransf 3d"
    frames, valid = clips(2), [5, 2]
    expected = expected_scores(state, tokenizer, TEXTS, frames, valid)
    np.testing.assert_allclose(other.score(TEXTS, frames, valid), expected, atol=CLOSE)


def test_a_pair_s_score_does_not_depend_on_what_else_is_scored(reranker, monkeypatch):
    frames, valid = clips(10), [1 + k % 5 for k in range(10)]
    together = reranker.score(TEXTS, frames, valid)
    for k in (0, 4, 9):
        alone = reranker.score(TEXTS[1:2], frames[k : k + 1], valid[k : k + 1])
        np.testing.assert_allclose(together[1, k], alone[0, 0], atol=CLOSE)
    import vidembed.encode.clip4clip.reranker as module

    monkeypatch.setitem(module._PAIRS, "cpu", 4)
    np.testing.assert_allclose(reranker.score(TEXTS, frames, valid), together, atol=CLOSE)


def test_padding_does_not_change_a_score(reranker):
    frames = clips(2, 6)
    padded = frames.copy()
    padded[:, 4:] = 7
    np.testing.assert_array_equal(
        reranker.score(TEXTS, frames, [4, 4]), reranker.score(TEXTS, padded, [4, 4])
    )
    np.testing.assert_allclose(
        reranker.score(TEXTS, padded, [4, 4]), reranker.score(TEXTS, frames[:, :4]), atol=1e-5
    )
    assert np.isfinite(reranker.score(TEXTS, frames, [0, 0])).all()


def test_a_re_ranker_gives_no_vectors(reranker):
    with pytest.raises(ValueError, match="scores pairs and has no vectors"):
        reranker.encode_video(clips())
    with pytest.raises(ValueError, match="scores pairs and has no vectors"):
        reranker.encode_text(TEXTS)


def test_nothing_in_gives_no_scores(reranker):
    assert reranker.score([], clips(2)).shape == (0, 2)
    assert reranker.score(TEXTS, clips(0)).shape == (3, 0)


def test_what_cannot_be_scored_is_refused_with_what_came(reranker):
    with pytest.raises(ValueError, match=r"expected uint8 RGB .* got float32 \(3, 5, 16, 16, 3\)"):
        reranker.score(TEXTS, clips().astype(np.float32))
    with pytest.raises(ValueError, match="takes 1 to 76 frames a clip, got 77"):
        reranker.score(TEXTS, clips(1, 77))
    with pytest.raises(ValueError, match="expected 3 numbers from 0 to 5 as valid, got"):
        reranker.score(TEXTS, clips(), [5, 5])
    with pytest.raises(TypeError, match="expected a list of texts"):
        reranker.score("rain", clips())


def test_bfloat16_stays_near_single_precision(tight, reranker):
    other = vidembed.load_reranker(tight, device="cpu", dtype="bfloat16")
    found, exact = other.score(TEXTS, clips(8)), reranker.score(TEXTS, clips(8))
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99


def test_a_re_ranker_says_which_frames_it_wants_and_has_no_vectors(reranker):
    spec = reranker.spec
    assert (spec.dim, spec.context_length) == (0, 32)
    assert (spec.clip.sampling.kind, spec.clip.sampling.count) == ("clip4clip", 12)
    assert str(spec.counts) == "1 to 76"


def test_weights_that_give_vectors_are_refused_as_re_ranker(weights, run):
    with pytest.raises(WeightsError, match="has the head meanP and gives vectors"):
        vidembed.load_reranker(weights)
    with pytest.raises(WeightsError, match=r"--rerank: .*only a tightTransf checkpoint"):
        vidembed.search(QUERY, run=run.uri, rerank=weights)


def test_weights_that_score_pairs_are_refused_as_encoder(tight):
    with pytest.raises(WeightsError, match="use this one as `vidembed search --rerank"):
        vidembed.load_encoder("clip4clip", tight)


# Searches


def test_a_search_is_ranked_again_by_scores_of_its_files(run, tight, scores, order):
    plain = vidembed.search(QUERY, run=run.uri)
    assert [hit.id for hit in plain] == order
    assert {hit.first_score for hit in plain} == {None}
    hits = vidembed.search(QUERY, run=run.uri, rerank=tight)
    assert [hit.id for hit in hits] == order[::-1]
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.id], abs=CLOSE)
    assert {hit.id: hit.first_score for hit in hits} == {hit.id: hit.score for hit in plain}


def test_only_the_first_results_are_ranked_again_but_at_least_those_asked_for(run, tight, order):
    (hit,) = vidembed.search(QUERY, run=run.uri, rerank=tight, rerank_top=3, top=1)
    assert hit.id == order[2]
    (hit,) = vidembed.search(QUERY, run=run.uri, rerank=tight, rerank_top=1, top=1)
    assert hit.id == order[0]
    hits = vidembed.search(QUERY, run=run.uri, rerank=tight, rerank_top=1, top=4)
    assert [hit.id for hit in hits] == order[3::-1]


def test_a_segment_is_scored_by_its_own_window(tmp_path, spec, tight, reranker, videos):
    vectors = np.eye(spec.dim)[:2]
    rows = [row("e", videos["e"], v, 3.0 * k, 3.0 * k + 3, k, 2) for k, v in enumerate(vectors)]
    run = write_run(tmp_path / "run", rows, spec)
    hits = {hit.id: hit for hit in vidembed.search(QUERY, run=run.uri, rerank=tight)}
    frames, _ = vidembed.read_frames(str(videos["e"]), count=12, sampling="clip4clip")
    for k, part in enumerate((frames[:3], frames[3:6])):
        expected = reranker.score([QUERY], part[None])[0, 0]
        assert hits[f"e#{k}"].score == pytest.approx(expected, abs=CLOSE)


def test_what_cannot_be_decoded_any_more_comes_last_with_a_note(
    tmp_path, spec, tight, videos, query_vector, capsys
):
    (tmp_path / "bad.mp4").write_text("no video")
    places = [tmp_path / "gone.mp4", videos["a"], tmp_path / "bad.mp4", videos["b"]]
    vectors = near(query_vector, 0.9, 0.8, 0.7, 0.6)
    rows = [row(p.stem, p, v) for p, v in zip(places, vectors, strict=True)]
    run = write_run(tmp_path / "run", rows, spec)
    hits = vidembed.search(QUERY, run=run.uri, rerank=tight)
    assert {hit.id for hit in hits[:2]} == {"a", "b"}
    assert [hit.id for hit in hits[2:]] == ["gone", "bad"]
    for hit, score in zip(hits[2:], (0.9, 0.7), strict=True):
        assert hit.first_score is None
        assert hit.score == pytest.approx(score, abs=1e-4)
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2
    assert notes[0].startswith("vidembed: gone is not re-ranked: NotFound: ")
    assert notes[1].startswith("vidembed: bad is not re-ranked: Unsupported: ")


def test_rows_open_no_more_than_a_manifest_s_would(
    tmp_path, spec, tight, videos, query_vector, capsys
):
    places = ["http://127.0.0.1:9/v.mp4", str(videos["a"])]
    vectors = near(query_vector, 0.9, 0.8)
    rows = [row(n, p, v) for n, p, v in zip(("web", "file"), places, vectors, strict=True)]
    run = write_run(tmp_path / "run", rows, spec)
    hits = vidembed.search(QUERY, run=run.uri, rerank=tight)
    assert [hit.id for hit in hits] == ["file", "web"]
    assert "web is not re-ranked: Forbidden: " in capsys.readouterr().err
    roots = [str(tmp_path / "elsewhere")]
    vidembed.search(QUERY, run=run.uri, rerank=tight, allow_root=roots)
    assert "file is not re-ranked: Forbidden: " in capsys.readouterr().err


def test_a_query_video_cannot_be_ranked_again(run, tight, videos):
    with pytest.raises(ConfigError, match="--rerank scores a text with videos: give a text"):
        vidembed.search(video=str(videos["a"]), run=run.uri, rerank=tight)


def test_the_command_shows_both_scores(run, tight, capsys):
    line = ["search", QUERY, "--run", run.uri, "--rerank", tight, "--device", "cpu"]
    assert cli.main(line) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["score", "first"]
    assert cli.main([*line, "--json"]) == 0
    hits = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert sorted(hit["first_score"] for hit in hits) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)


@pytest.mark.milvus
def test_a_collection_s_answer_is_ranked_again_as_its_run_s(tmp_path, run, tight):
    uri = str(tmp_path / "lite.db")
    vidembed.load(run.uri, uri)
    exact = vidembed.search(QUERY, run=run.uri, rerank=tight)
    found = vidembed.search(QUERY, milvus=uri, rerank=tight)
    assert [hit.id for hit in found] == [hit.id for hit in exact]
    for one, other in zip(found, exact, strict=True):
        assert one.score == pytest.approx(other.score, abs=CLOSE)


# Evaluations


def captioned(path, ids, texts):
    pq.write_table(pa.table({"video_id": list(ids), "caption": texts}), path)
    return str(path)


def of_texts(path):
    rows = pq.read_table(path).to_pylist()
    return [row for row in rows if row["direction"] == "text_to_video"]


def test_an_evaluation_reports_the_ranks_of_a_count_by_hand_beside_the_run_s(
    tmp_path, run, tight, reranker, videos, order
):
    texts = [QUERY, *TEXTS, QUERY]
    queries = captioned(tmp_path / "q.parquet", order, texts)
    plain = vidembed.evaluate(run.uri, queries, out=str(tmp_path / "plain"))
    found = vidembed.evaluate(
        run.uri, queries, out=str(tmp_path / "again"), rerank=tight, rerank_top=3
    )
    assert found["text_to_video"] == plain["text_to_video"]
    assert "text_to_video_reranked" not in plain.result
    first = of_texts(tmp_path / "plain" / "evaluation.parquet")
    expected = []
    for line, own in zip(first, order, strict=True):
        some = line["top"][:3]
        mine = {name: score_of_file(reranker, videos[name], line["query"]) for name in some}
        ranked = sorted(some, key=lambda name: -mine[name])
        expected.append(ranked.index(own) + 1 if own in ranked else line["rank"])
    again = of_texts(tmp_path / "again" / "evaluation.parquet")
    assert [line["reranked"] for line in again] == expected
    assert expected != [line["rank"] for line in first]
    table = found["text_to_video_reranked"]
    assert table["MnR"] == pytest.approx(np.mean(expected))
    assert table["R@1"] == pytest.approx(np.mean([rank <= 1 for rank in expected]))
    assert (table["rerank_top"], table["not_decoded"]) == (3, 0)
    assert table["architecture"] == "ViT-128/8 tightTransf"


def test_an_evaluation_places_a_file_that_is_gone_after_those_that_are_scored(
    tmp_path, spec, tight, videos, query_vector
):
    places = [tmp_path / "gone.mp4", videos["a"], videos["b"]]
    vectors = near(query_vector, 0.9, 0.8, 0.7)
    rows = [row(p.stem, p, v) for p, v in zip(places, vectors, strict=True)]
    run = write_run(tmp_path / "run", rows, spec)
    queries = captioned(tmp_path / "q.parquet", ["gone"], [QUERY])
    found = vidembed.evaluate(run.uri, queries, rerank=tight)
    assert found["text_to_video"]["MnR"] == 1
    assert found["text_to_video_reranked"]["MnR"] == 3
    assert found["text_to_video_reranked"]["not_decoded"] == 1


def test_an_evaluation_decodes_each_video_once(tmp_path, run, tight, monkeypatch):
    from vidembed.rerank import Reranking

    seen = []
    plain = Reranking.features

    def counted(self, name, window):
        seen.append(name)
        return plain(self, name, window)

    monkeypatch.setattr(Reranking, "features", counted)
    queries = captioned(tmp_path / "q.parquet", NAMES + NAMES, [QUERY, *TEXTS, "x"] * 2)
    vidembed.evaluate(run.uri, queries, rerank=tight)
    assert sorted(seen) == list(NAMES)
