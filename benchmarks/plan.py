"""What `vidembed plan` says beside what `vidembed embed` then takes: three mixes, in turn.

    python benchmarks/plan.py [--rounds N] [--only MIX ...] [--videos FOLDER] [--folder DIR]

`light`: many short 240p videos and a small encoder. `decode`: real clips of a folder, or generated
720p and 1080p ones, and the same encoder. `encode`: short videos and CLIP ViT-B/32 of the real
size, with weights drawn from a seed. Each round plans a mix and then embeds it, as commands of
their own; medians of the rounds are compared. Other work on the machine makes it worthless: the
load is noted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, tree

RESULTS = machine.ROOT / "benchmarks" / "results"
_GOAL = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A manifest and how it is embedded. sample: videos that the plan measures."""

    name: str
    manifest: Path
    words: tuple[str, ...]
    sample: int


def main() -> None:
    options = _options()
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    mixes = [mix for mix in _mixes(folder, options) if not options.only or mix.name in options.only]
    rounds: list[dict[str, Any]] = []
    for turn in range(options.rounds):
        for mix in mixes:
            found = {"round": turn, "mix": mix.name} | _once(mix, folder)
            print(json.dumps(found), flush=True)
            rounds.append(found)
    results = [_summary(mix, [each for each in rounds if each["mix"] == mix.name]) for mix in mixes]
    _write({"about": _about(options), "results": results, "rounds": rounds}, Path(options.out))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=["light", "decode", "encode"])
    parser.add_argument("--videos", help="a folder of real clips, for the mix `decode`")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "vidembed-plan"))
    parser.add_argument("--out", default=str(RESULTS))
    parser.add_argument("--note", default="", help="a word on what else the machine did")
    return parser.parse_args()


def _mixes(folder: Path, options: argparse.Namespace) -> list[Mix]:
    tiny = ("--encoder", "clip4clip-tiny")
    short = _short(folder / "short", 400)
    # Each video several times, under other names: the job is long against its start.
    real = _clips(folder, options.videos)
    return [
        Mix(name="light", manifest=_listed(folder / "light.csv", short, 1200), words=tiny,
            sample=40),
        Mix(name="decode", manifest=_listed(folder / "decode.csv", real, 160), words=tiny,
            sample=60),
        Mix(name="encode", manifest=_listed(folder / "encode.csv", short, 32), sample=12,
            words=("--encoder", "clip4clip", "--weights", _weights(folder / "weights"))),
    ]  # fmt: skip


def _short(folder: Path, count: int) -> list[Path]:
    from vidembed.synthetic.corpus import CorpusFormat, write_corpus

    if not (folder / "manifest.csv").exists():
        write_corpus(folder, count, seed=3, form=CorpusFormat(height=240, width=320))
    return sorted((folder / "videos").iterdir())


def _clips(folder: Path, given: str | None) -> list[Path]:
    from benchmarks.decoding import inputs

    if given is not None:
        found = [path for path in sorted(Path(given).iterdir()) if path.suffix in inputs.SUFFIXES]
        if not found:
            raise SystemExit(f"--videos {given}: no videos in it")
        return found
    return [Path(clip.path) for clip in inputs.generate(folder, short=True) if clip.height > 240]


def _weights(folder: Path) -> str:
    """ViT-B/32, as large as the real one."""
    from benchmarks.encoding import seeds
    from vidembed.encode import registry

    if not folder.exists():
        seeds.weights(registry.entry("clip4clip"), folder)
    return str(folder / "clip4clip")


def _listed(manifest: Path, videos: list[Path], count: int) -> Path:
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "uri"])
        for k in range(count):
            writer.writerow([f"video-{k:05d}", videos[k % len(videos)].resolve()])
    return manifest


def _once(mix: Mix, folder: Path) -> dict[str, Any]:
    """A plan, and the run that it is about."""
    load = os.getloadavg()[0]
    told, out = folder / "plan.json", folder / "run"
    words = [*mix.words, "--sample", str(mix.sample), "--out", str(told)]
    planning = _command("plan", mix, words, folder)
    plan = json.loads(told.read_text())
    words = [*mix.words, "--out", str(out), "--overwrite", "--progress", "none"]
    embedding = _command("embed", mix, words, folder)
    report = json.loads((out / "report.json").read_text())
    figures = {figure["name"]: figure["value"] for figure in plan["figures"]}
    return {
        "predicted_s": plan["here"]["seconds"],
        "predicted_interval_s": plan["here"]["seconds_interval"],
        "took_s": embedding.wall_s,
        "predicted_videos_per_s": plan["here"]["videos_per_s"],
        "reached_videos_per_s": _rate(report, figures["start-up"], embedding.wall_s),
        "predicted_bottleneck": plan["here"]["bottleneck"],
        "said_bottleneck": report["bottleneck"],
        "videos": report["videos"],
        "cpu_s": embedding.cpu_s,
        "plan_s": planning.wall_s,
        "load": load,
        "figures": figures,
        "limits": plan["here"]["limits"],
        "stages": report["stages"],
    }


def _rate(report: dict[str, Any], start_up: float, wall: float) -> float:
    """Videos a second, besides what the plan takes for start-up."""
    return float(report["videos"]) / max(1e-9, wall - start_up)


def _command(command: str, mix: Mix, words: list[str], folder: Path) -> tree.Usage:
    log = folder / f"{mix.name}-{command}.log"
    # Its own threads are what embed and plan decide about.
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "RAY_ADDRESS")}
    env["PYTHONPATH"] = str(machine.ROOT)
    full = [sys.executable, "-m", "vidembed", command, str(mix.manifest), *words]
    found = tree.run(full, cwd=folder, env=env, log=log)
    if found.code:
        raise SystemExit(f"{command} of {mix.name} ended with {found.code}:\n{log.read_text()}")
    return found


def _summary(mix: Mix, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def median(name: str) -> float:
        return statistics.median(each[name] for each in rounds)

    predicted, took = median("predicted_s"), median("took_s")
    rate, reached = median("predicted_videos_per_s"), median("reached_videos_per_s")
    return {
        "mix": mix.name,
        "videos": rounds[0]["videos"],
        "predicted_s": predicted,
        "took_s": took,
        "ratio": predicted / took,
        "predicted_videos_per_s": rate,
        "reached_videos_per_s": reached,
        "rate_ratio": rate / reached,
        "predicted_bottleneck": rounds[-1]["predicted_bottleneck"],
        "said_bottleneck": rounds[-1]["said_bottleneck"],
        "efficiency": statistics.median(each["figures"]["efficiency"] for each in rounds),
        "plan_s": median("plan_s"),
        "load": max(each["load"] for each in rounds),
        "within": abs(predicted / took - 1) <= _GOAL,
    }


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **machine.about(),
        "rounds": options.rounds,
        "clips": "real" if options.videos else "generated",
        "note": options.note,
    }


def markdown(found: dict[str, Any]) -> str:
    about = found["about"]
    where = f"on {about['cpu']}, {about['cores']} cores, no GPU; python {about['python']}"
    how = f"Medians of {about['rounds']} rounds; a round plans a mix and then embeds it"
    columns = (
        "mix", "videos", "predicted s", "took s", "ratio", "predicted videos/s", "reached", "ratio",
        "bottleneck predicted", "of the run", "efficiency", "the plan took s", "load at most",
    )  # fmt: skip
    lines = [
        f"# Plans beside runs, {about['date']}\n",
        f"vidembed at `{about['commit']}`, {where}. {how}.\n",
        f"The clips of `decode` are {about['clips']}.\n",
        *([about["note"] + "\n"] if about["note"] else []),
        "Seconds are of the whole command, videos/s without what the plan takes for start-up.\n",
        "| " + " | ".join(columns) + " |",
        "| --- " * len(columns) + "|",
    ]
    lines += [_row(each) for each in found["results"]]
    return "\n".join(lines) + "\n"


def _row(each: dict[str, Any]) -> str:
    cells = [
        f"`{each['mix']}`", f"{each['videos']:,}",
        f"{each['predicted_s']:.1f}", f"{each['took_s']:.1f}", f"{each['ratio']:.2f}",
        f"{each['predicted_videos_per_s']:.2f}", f"{each['reached_videos_per_s']:.2f}",
        f"{each['rate_ratio']:.2f}", each["predicted_bottleneck"], each["said_bottleneck"],
        f"{each['efficiency']:.2f}", f"{each['plan_s']:.0f}", f"{each['load']:.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _write(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"plan-{found['about']['date']}"
    name.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    name.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
