"""Networks of several kinds through the whole job: embedded together, searched and evaluated."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import vidembed
from benchmarks.encoding.seeds import weights
from tests.helpers.decoding import read_indices
from vidembed.decode.sampling import sample
from vidembed.decode.video import probe
from vidembed.encode import registry
from vidembed.errors import ConfigError
from vidembed.retrieval import matrix
from vidembed.store.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

# float32 pixels; windows, black frames and raw dot products; squashed frames.
NAMES = ("x3d_xs", "s3d_milnce", "videoclip_mugen")
PRESETS = {"s3d_milnce": "window"}
WITH_TEXT = NAMES[1:]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("zoo")
    found = {name: weights(registry.entry(name), place) for name in NAMES}
    # The text tower of MIL-NCE needs its words.
    words = ["red", "blue", "green", "circle", "square", "moves", "left", "right", "a"]
    np.save(place / "s3d_dict.npy", np.array(words))
    return found


@pytest.fixture(scope="module")
def videos(corpus):
    return sorted((corpus.parent / "videos").glob("*.mp4"))[:2]


@pytest.fixture(scope="module")
def runs(files, videos, tmp_path_factory, ray_session):
    place = tmp_path_factory.mktemp("runs")
    manifest = place / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "uri", "caption"])
        writer.writerows((v.stem, str(v), f"a red circle {k}") for k, v in enumerate(videos))
    reports = vidembed.embed(
        str(manifest),
        out=str(place / "out"),
        encoder=list(NAMES),
        weights=[f"{name}={path}" for name, path in files.items()],
        preset=[f"{name}={preset}" for name, preset in PRESETS.items()],
    )
    assert all(report.embedded == 2 for report in reports.values())
    return manifest, {name: Run.open(report.out) for name, report in reports.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_job_s_vectors_are_those_of_the_encoder_alone(name, runs, files, videos):
    table = runs[1][name].read().sort_by("video_id")
    encoder = vidembed.load_encoder(name, files[name], preset=PRESETS.get(name))
    for video, vector in zip(videos, matrix(table["embedding"]), strict=True):
        facts = probe(str(video))
        wanted = sample(encoder.spec.clip.sampling, facts, 0, facts.n_frames)
        frames = dict(read_indices(str(video), np.unique(wanted[wanted >= 0])))
        black = np.zeros_like(next(iter(frames.values())))
        clip = np.stack([frames[i] if i >= 0 else black for i in wanted.tolist()])
        expected = encoder.encode_video(clip[None])[0]
        assert np.linalg.norm(vector - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_video_finds_itself_first(name, runs, files, videos):
    run = runs[1][name]
    hits = vidembed.search(video=str(videos[1]), run=run.uri)
    assert (hits[0].video_id, len(hits)) == (videos[1].stem, 2)
    if run.record["metric"] == "COSINE":
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_texts_find_videos_and_are_evaluated(name, runs):
    manifest, made = runs
    hits = vidembed.search("a red circle moves left", run=made[name].uri)
    assert len({hit.video_id for hit in hits}) == 2
    found = vidembed.evaluate(made[name].uri, queries=str(manifest))
    assert found["text_to_video"]["queries"] == found["text_to_video"]["gallery"] == 2


def test_an_encoder_without_a_text_tower_says_so(runs):
    manifest, made = runs
    with pytest.raises(ConfigError, match="no text tower"):
        vidembed.search("a red circle", run=made["x3d_xs"].uri)
    with pytest.raises(ConfigError, match="no text tower"):
        vidembed.evaluate(made["x3d_xs"].uri, queries=str(manifest))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "x3d_xs", "frames": 8}, "x3d_xs takes"),
        ({"encoder": "x3d_xs", "preset": "papre"}, "no preset 'papre'; there are: "),
        ({"encoder": "s3d_milnce", "frames": 7}, "s3d_milnce takes"),
    ],
)
def test_what_a_network_cannot_take_is_refused_before_anything_is_started(
    options, said, files, videos, tmp_path
):
    given = {"weights": files[options["encoder"]], **options}
    with pytest.raises(ConfigError, match=said):
        vidembed.embed(str(videos[0].parent), out=str(tmp_path / "run"), **given)
    assert not (tmp_path / "run").exists()
