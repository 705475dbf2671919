"""Several encoders, one decoding: the runs are those that each encoder would have made alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import vidembed
from tests.helpers import checkpoints
from tests.helpers.runs import METADATA, record
from tests.helpers.videos import truncate, write_video
from tests.test_pipeline import embeddings, failures, write_manifest
from vidembed import cli, schema
from vidembed.clips import Segmentation
from vidembed.config import ActorRange, EmbedConfig
from vidembed.decode.stage import Decode, DecodeSettings
from vidembed.encode import registry
from vidembed.encode.stage import Encode, EncodeSettings
from vidembed.errors import ConfigError, RunMismatchError
from vidembed.labels import ALONE
from vidembed.manifest import open_manifest
from vidembed.pipeline.pools import allocate
from vidembed.retrieval import matrix
from vidembed.store.done import SKIP, remaining, survey
from vidembed.store.run import Run
from vidembed.write import RunSink

LIMIT = 6


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A CLIP4Clip with random weights: 16 pixels, one frame a second, masked; not `clip_folder`."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return str(checkpoints.write_reference(folder / "model.bin.0", checkpoints.reference_state()))


@pytest.fixture(scope="session")
def specs(clip_folder, checkpoint):
    return {
        "wide": registry.describe("clip4clip", clip_folder),
        "small": registry.describe("clip4clip", checkpoint).sampled(kind="fast", count=3),
    }


def difference(one: pa.Table, other: pa.Table) -> float:
    assert one.drop_columns(["embedding"]).equals(other.drop_columns(["embedding"]))
    return float(np.abs(matrix(one["embedding"]) - matrix(other["embedding"])).max())


# The job


@pytest.fixture(scope="session")
def job(ray_session, corpus, tmp_path_factory, clip_folder, checkpoint):
    """Six videos: the run of one encoder alone, what both were asked, and what they reported."""
    out = tmp_path_factory.mktemp("many")
    small = {"encoder": "clip4clip", "weights": checkpoint, "out": str(out / "small")}
    alone = vidembed.embed(str(corpus), limit=LIMIT, **small)
    both = {
        "manifest": str(corpus),
        "out": str(out / "both"),
        "encoder": "wide:clip4clip,small:clip4clip",
        "weights": [f"wide={clip_folder}", f"small={checkpoint}"],
        "limit": LIMIT,
    }
    return alone, both, vidembed.embed(**both)


@pytest.mark.ray
def test_each_run_is_what_its_encoder_would_have_made_alone(job, corpus, decode, specs):
    alone, asked, reports = job
    assert list(reports) == ["wide", "small"]
    for name, report in reports.items():
        run = Path(asked["out"]) / name
        assert (report.out, report.embedded, report.failed) == (str(run), LIMIT, 0)
        written = json.loads((run / "report.json").read_text())
        assert list(written["stages"]) == ["decode", "encode", "write"]
        assert [stage["clips"] for stage in written["stages"].values()] == [LIMIT] * 3
    assert difference(embeddings(reports["small"].out), embeddings(alone.out)) < 1e-6
    made, other = (json.loads((Path(r.out) / "run.json").read_text()) for r in (alone, report))
    assert made["identity"] == other["identity"]
    assert other["config"] == made["config"] | {"out": report.out, "collection": "videos_small"}
    # The other one's, by the stages alone.
    stage = decode({ALONE: "wide"})
    manifest = next(open_manifest(str(corpus)).tables()).slice(0, LIMIT)
    (clips,) = stage(manifest)
    expected = encode(clips, specs, ALONE, "wide").sort_by("id")
    found = matrix(embeddings(reports["wide"].out)["embedding"])
    assert np.abs(found - matrix(expected["embedding"])).max() < 1e-6


@pytest.mark.ray
def test_a_video_is_decoded_once_for_all(job):
    """The corpus is of one H.264 GOP a video: whoever wants the last frame has all references."""
    alone, _, reports = job
    together = reports["wide"].decode
    assert together == reports["small"].decode
    assert reports["wide"].stages["decode"]["clips"] == LIMIT
    wide = LIMIT * 12
    assert wide <= together["wanted"] < wide + alone.decode["wanted"]
    assert alone.decode["decoded"] <= together["decoded"] < 2 * alone.decode["decoded"]


@pytest.mark.ray
def test_a_run_that_lost_a_part_is_healed_and_the_other_left_alone(job, tmp_path):
    _, two, _ = job
    out = Path(two["out"])
    before = embeddings(out / "small")
    others = {p.name: p.stat().st_mtime_ns for p in (out / "wide" / "embeddings").iterdir()}
    for part in (out / "small" / "embeddings").iterdir():
        part.unlink()
    reports = vidembed.embed(**two)
    assert [report.done_before for report in reports.values()] == [LIMIT, 0]
    assert reports["wide"].bottleneck == "nothing to do"
    assert difference(embeddings(out / "small"), before) < 1e-6
    found = {p.name: p.stat().st_mtime_ns for p in (out / "wide" / "embeddings").iterdir()}
    assert found == others
    # Each is a run like any other: it is resumed by itself, and answers by itself.
    small = {"out": str(out / "small"), "weights": two["weights"][1].partition("=")[2]}
    again = vidembed.embed(two["manifest"], limit=LIMIT, **small)
    assert again.done_before == LIMIT
    assert len(vidembed.search("a circle", run=again, top=3)) == 3
    # What differs is said of the run that differs, and before anything is made.
    third = {"encoder": [*two["encoder"].split(","), "third:clip4clip-tiny"]}
    with pytest.raises(RunMismatchError, match=r"both/wide was made .*count is 12 there and 5"):
        vidembed.embed(**two | third | {"frames": 5})
    assert not (out / "third").exists()
    with pytest.raises(ConfigError, match="is the run of one encoder"):
        vidembed.embed(**two | {"out": small["out"]})


@pytest.mark.ray
def test_two_networks_from_the_command_line_in_segments_with_failures_and_milvus(
    ray_session, corpus, clip_folder, tmp_path, capsys
):
    good = sorted((corpus.parent / "videos").glob("*.mp4"))[:3]
    (tmp_path / "text.mp4").write_text("no video")
    rows = [{"video_id": p.stem, "uri": str(p)} for p in (*good, tmp_path / "text.mp4")]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    out, database = tmp_path / "out", str(tmp_path / "milvus.db")
    words = ["embed", manifest, "--out", str(out), "--encoder", "clip4clip-tiny,clip4clip"]
    words += ["--weights", f"clip4clip={clip_folder}", "--segment-seconds", "1"]
    words += ["--milvus", database, "--progress", "none"]
    assert cli.main([*words, "--max-failures", "0"]) == 3
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(" videos embedded")[0] for line in told] == [
        "clip4clip-tiny: 3 of 4",
        "clip4clip: 3 of 4",
    ]
    runs = [out / "clip4clip-tiny", out / "clip4clip"]
    ids = [embeddings(run)["id"].to_pylist() for run in runs]
    assert ids[0] == ids[1]
    assert len(ids[0]) > 3
    assert [failures(run) for run in runs] == [{"text": "Unsupported"}] * 2
    for run, collection in zip(runs, ("videos_clip4clip_tiny", "videos_clip4clip"), strict=True):
        asked = {"milvus": database, "collection": collection, "top": 5}
        hits = vidembed.search("a circle", **asked)
        exact = vidembed.search("a circle", run=str(run), top=5)
        assert [h.id for h in hits] == [h.id for h in exact]


# The stages, without Ray


@pytest.fixture
def decode(specs):
    made = []

    def make(labels, **options):
        clips = {label: specs[name].clip for label, name in labels.items()}
        made.append(Decode(DecodeSettings(specs=clips, metadata=METADATA, **options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rows(uris, skips=None) -> pa.Table:
    """Manifest rows; skips: for each label one entry a row."""
    made = [{"video_id": p.stem, "uri": str(p), "caption": p.stem} for p in uris]
    for label, values in (skips or {}).items():
        for row, value in zip(made, values, strict=True):
            row[f"skip@{label}"] = value
    fields = [SKIP.with_name(f"skip@{label}") for label in skips or {}]
    return pa.Table.from_pylist(made, schema=pa.schema([*schema.MANIFEST, *METADATA, *fields]))


def encode(clips: pa.Table, specs, label: str, name: str) -> pa.Table:
    settings = EncodeSettings(spec=specs[name], label=label, device="cpu", threads=1)
    return Encode(settings)(clips)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made = [
        write_video(folder / "good.mp4", frames=48, fps=24),
        write_video(folder / "other.mp4", frames=24, fps=12, size=(120, 160)),
    ]
    cut = write_video(folder / "cut.mp4", frames=60, options={"movflags": "faststart"})
    truncate(cut)
    return [*made, cut]


def test_the_stages_give_each_encoder_its_own_frames_of_every_segment(
    videos, specs, decode, tmp_path, monkeypatch
):
    cut = Segmentation(seconds=0.5)
    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "tests.helpers.drills:by_name")
    monkeypatch.setenv("DRILL_LOG", str(tmp_path / "log"))
    (table,) = decode({"wide": "wide", "small": "small"}, segmentation=cut)(rows(videos))
    assert len((tmp_path / "log").read_text().split()) == len(videos)
    tensors = {name: spec.clip.tensor for name, spec in specs.items()}
    assert table.schema.equals(schema.clips(tensors, METADATA))
    for label in specs:
        table = encode(table, specs, label, label)
    for label in specs:
        share = schema.share(table, label)
        assert share.schema.equals(schema.vectors(specs[label].dim, METADATA))
        (alone,) = decode({ALONE: label}, segmentation=cut)(rows(videos))
        expected = encode(alone, specs, ALONE, label)
        good = pa.compute.is_valid(expected["embedding"])
        assert difference(share.filter(good), expected.filter(good)) < 1e-6
        assert share["error"].to_pylist() == [*[None] * 8, "Truncated"]


def test_only_what_a_run_lacks_is_decoded_encoded_and_committed(videos, specs, decode, tmp_path):
    """Of `good` one has three of four segments, of `other` all, as of `cut`; its mate nothing."""
    cut = Segmentation(seconds=0.5)
    skips = {"wide": [[0, 1, 3], None, None], "small": [[], [], []]}
    stage = decode({"wide": "wide", "small": "small"}, segmentation=cut)
    (table,) = stage(rows(videos, skips))
    assert table["pixels@wide"].is_valid().to_pylist() == [False] * 2 + [True] + [False] * 6
    assert table["pixels@small"].is_valid().to_pylist() == [True] * 8 + [False]
    for label in specs:
        table = encode(table, specs, label, label)
    runs = {
        label: Run.create_or_resume(str(tmp_path / label), record(spec))
        for label, spec in specs.items()
    }
    events = []
    RunSink(runs, 8, events.append).write([table], None)
    assert runs["wide"].read()["id"].to_pylist() == ["good#2"]
    assert runs["wide"].parts("failures") == []
    assert len(runs["small"].read()) == 8
    assert runs["small"].read(kind="failures")["video_id"].to_pylist() == ["cut"]
    (event,) = events
    assert (event.videos, event.clips, event.failures) == (2, 8, {"Truncated": 1})
    done = {label: survey(run) for label, run in runs.items()}
    left = remaining(rows(videos), done).select(["video_id", "skip@wide", "skip@small"])
    assert left.to_pylist() == [
        {"video_id": "good", "skip@wide": [2], "skip@small": None},
        {"video_id": "other", "skip@wide": [], "skip@small": None},
        {"video_id": "cut", "skip@wide": [], "skip@small": None},
    ]
    assert len(remaining(rows(videos), {"small": done["small"]})) == 0


def test_a_vector_that_is_not_finite_fails_in_its_own_run_only(videos, specs, decode, tmp_path):
    state = checkpoints.reference_state()
    state["clip.visual.class_embedding"] = torch.full((checkpoints.VISION,), float("nan"))
    path = checkpoints.write_reference(tmp_path / "nan.bin", state)
    broken = specs | {"small": registry.describe("clip4clip", str(path))}
    (table,) = decode({"wide": "wide", "small": "small"})(rows(videos[:2]))
    for label in ("small", "wide"):
        table = encode(table, broken, label, label)
    assert schema.share(table, "small")["error"].to_pylist() == ["NonFinite"] * 2
    share = schema.share(table, "wide")
    assert share["error"].to_pylist() == [None, None]
    assert share["embedding"].null_count == 0


def test_a_manifest_s_columns_do_not_meet_those_of_an_encoder():
    assert schema.is_reserved("error")
    assert schema.is_reserved("error@wide")
    assert not schema.is_reserved("caption@home")


# What is asked for


def options(**given) -> EmbedConfig:
    return EmbedConfig.make({"manifest": "m.csv", "out": "runs"} | given)


def test_encoders_are_named_alike_by_flag_yaml_and_python():
    flags = {"encoder": "first:clip4clip,tiny", "weights": ["first=a,b.pt,tiny=c"]}
    values = {"encoder": ["first:clip4clip", "tiny"], "weights": ["first=a,b.pt", "tiny=c"]}
    chosen = [
        [(c.label, c.encoder, c.weights) for c in options(**given).choices]
        for given in (flags, values)
    ]
    assert chosen[0] == chosen[1] == [("first", "clip4clip", "a,b.pt"), ("tiny", "tiny", "c")]
    first, tiny = (options(**flags).alone(c) for c in options(**flags).choices)
    assert (first.out, first.encoder, first.weights) == ("runs/first", "clip4clip", "a,b.pt")
    assert (tiny.out, tiny.collection) == ("runs/tiny", "videos_tiny")
    (alone,) = options(weights="a=1,b.pt").choices
    assert (alone.label, alone.encoder, alone.weights) == ("", "clip4clip", "a=1,b.pt")
    assert options(**values).plain()["encoder"] == ["first:clip4clip", "tiny"]
    assert options().plain()["encoder"] == "clip4clip"


@pytest.mark.parametrize(
    ("encoder", "weights", "said"),
    [
        ("a,a", None, "--encoder names 'a' twice; label them apart, as in first:a,second:a"),
        ("x:a,x:b", None, "--encoder names 'x' twice"),
        ("x/y:a,b", None, "--encoder: 'x/y' cannot be a run's folder"),
        ("logs:a,b", None, "--encoder: 'logs' cannot be a run's folder"),
        ("x:a", None, "--encoder x:a: a label tells several encoders apart; for one write"),
        ("a-b,a_b", None, "'a-b' and 'a_b' would have one Milvus collection"),
        ("a,b", "p.pt", "does not say which of several encoders it is for; write --weights a=p.pt"),
        ("a,b", "c=p.pt", "--weights names 'c', which is no encoder of this job; there are: a, b"),
        ("a,b", "a=p,a=q", "--weights names 'a' twice"),
        ("a", ["p", "q"], "--weights is there 2 times; a takes one"),
        ("", None, "--encoder: expected a name"),
        (3, None, "--encoder: expected a name or a list of names, got 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_said_with_the_remedy(encoder, weights, said):
    with pytest.raises(ConfigError) as caught:
        options(encoder=encoder, weights=weights)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_encoder_has_its_pool_and_they_share_the_machine():
    two = allocate(8, 0, 1, options(), encoders=2)
    assert (two.encode, two.decode, two.threads) == (ActorRange(1, 1), ActorRange(1, 8), 4)
    assert (two.decode_first, two.decode_cpus, two.encode_cpus) == (8, 0.75, 0.75)
    assert allocate(2, 0, 1, options(), encoders=3).encode_cpus == pytest.approx(0.3)
    gpus = allocate(32, 4, 1, options(), encoders=2)
    assert (gpus.encode, gpus.encode_gpus) == (ActorRange(2, 2), 1.0)
    with pytest.raises(ConfigError, match=r"3 encode actors .* --gpus-per-actor 0\.33 makes room"):
        allocate(32, 1, 1, options(), encoders=3)
    assert allocate(32, 1, 1, options(gpus_per_actor=0.33), encoders=3).encode.least == 1
