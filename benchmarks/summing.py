"""One line for each thing that is aimed at, out of the records of all benchmarks."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured, in words; its value; the least or most that is aimed at, where there is
    an aim; and which file tells more.
    """

    what: str
    value: float
    least: float | None = None
    most: float | None = None
    file: str = ""

    @property
    def verdict(self) -> str:
        if self.least is None and self.most is None:
            return ""
        low = self.least is not None and self.value < self.least
        high = self.most is not None and self.value > self.most
        return "no" if low or high else "yes"

    @property
    def aim(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}" if self.most is not None else ""

    def plain(self, *, judged: bool) -> dict[str, Any]:
        return asdict(self) | ({"met": self.verdict} if judged else {})


def summary(part: str, file: str, record: dict[str, Any]) -> list[Found]:
    """The lines of one benchmark's record; none of one that has nothing to be summed up here."""
    read = _READERS.get(part)
    return [Found(file=file, **line) for line in read(record)] if read else []


def _startup(record: dict[str, Any]) -> list[dict[str, Any]]:
    found = record["contenders"]
    clips = record["about"]["clips"]
    ours = statistics.median(found["vidembed embed"]["cpu_s"])
    lines = [{"what": f"CPU-seconds of `embed` over {clips} clips", "value": ours, "most": 8.0}]
    if "naive Ray Data" in found:
        ray = statistics.median(found["naive Ray Data"]["cpu_s"])
        lines.append({"what": "… as a share of naive Ray Data's", "value": ours / ray})
    return lines


def _decode(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the clips' ratios to whoever was fastest and right, the geometric mean."""
    lines = []
    for sampling in ("uniform", "fast", "keyframes"):
        ratios = []
        for by in record["results"].values():
            peers = [
                each["cpu_median"]
                for who, each in by.items()
                if not who.startswith("vidembed")
                and "cpu_median" in each
                and not each["wrong"]
                and each["start_up"] < each["cpu_median"]
            ]
            ours = by.get(f"vidembed {sampling} auto", {}).get("cpu_median")
            if peers and ours:
                ratios.append(ours / min(peers))
        if ratios:
            what = f"CPU time of decoding, `{sampling}`, as a share of the fastest peer's"
            lines.append({"what": what, "value": statistics.geometric_mean(ratios)})
    return lines


def _encoders(record: dict[str, Any]) -> list[dict[str, Any]]:
    timings = record["encoders"].get("clip4clip", {}).get("timings", [])
    best = {
        each["dtype"]: max(int(batch) / seconds for batch, seconds in each["seconds"].items())
        for each in timings
        if each["seconds"]
    }
    return [
        {"what": f"clips/s of clip4clip in {dtype}", "value": rate} for dtype, rate in best.items()
    ]


_AIMS = {("uniform", "null"): 1.2, ("fast", "null"): 2.0}
_ENCODERS = {"null": "null encoder", "clip": "CLIP B/32"}


def _overhead(record: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for encoder, each in record["encoders"].items():
        words = f"`embed`, {_ENCODERS[encoder]}, {each['clips']:,} clips"
        busy = statistics.median(each["contenders"]["vidembed embed"]["cores_busy"])
        ratio = statistics.median(each["ratio"])
        lines += [
            {"what": f"{words}: CPU time over the bare loops'", "value": ratio, "most": 1.05},
            {"what": f"{words}: share of cores that are busy", "value": busy, "least": 0.9},
        ]
    return lines


def _peers(record: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for who in ("uniform", "fast", "keyframes"):
        for encoder, result in record["results"].get(who, {}).items():
            best = record["best_peer"][encoder]
            if result.get("times_cheaper_than_best_peer"):
                what = f"`{who}`, {_ENCODERS[encoder]}: times cheaper a clip than {best}"
                value = result["times_cheaper_than_best_peer"]
                lines.append({"what": what, "value": value, "least": _AIMS.get((who, encoder))})
    return lines


def _milvus(record: dict[str, Any]) -> list[dict[str, Any]]:
    ratio = record["ratio_to_ready"]
    words = "rows/s as a share of a bare loop's"
    lines = [{"what": f"Milvus, one writer: {words}", "value": ratio["send"], "least": 0.9}]
    for count in (2, 4):
        what = f"Milvus, {count} writers: {words}"
        lines.append({"what": what, "value": ratio[f"{count} writers"]})
    if "bulk" in ratio:
        pairs = zip(*(record["rows_per_second"][way] for way in ("bulk", "load")), strict=True)
        value = statistics.median(a / b for a, b in pairs)
        lines.append({"what": "`load --bulk`: rows/s as a share of `load`'s", "value": value})
    return lines


def _search(record: dict[str, Any]) -> list[dict[str, Any]]:
    found = record["results"]
    if "faiss" not in found:
        return []
    rows = record["about"]["rows"]
    return [
        {
            "what": f"exact search, {rows:,} vectors, {words}: time as a share of faiss's",
            "value": found["kept"][key] / found["faiss"][key],
        }
        for key, words in (("warm", "a further query"), ("first", "the first query"))
    ]


def _scale(record: dict[str, Any]) -> list[dict[str, Any]]:
    attempts = record["attempts"]
    rows = sum(each["rows_after"] - each["rows_before"] for each in attempts)
    rate = rows / sum(each["seconds"] for each in attempts)
    what = f"{record['about']['videos']:,} videos, stages that cost nothing, a kill: videos/s"
    return [{"what": what, "value": rate}]


_READERS: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
    "startup": _startup,
    "decode": _decode,
    "encoders": _encoders,
    "overhead": _overhead,
    "peers": _peers,
    "milvus": _milvus,
    "search": _search,
    "scale": _scale,
}


_SHORT = (
    " The short form: to see that all is in order. Few clips and one round scatter too widely to "
    "be held against the aims."
)


def markdown(about: dict[str, Any], found: list[Found], failed: dict[str, str]) -> str:
    full = about["form"] == "full"
    form = "" if full else _SHORT
    rows = [
        f"| {each.what} | {each.value:.3g} | {each.aim} | {met} | {each.file} |"
        for each in found
        for met in [each.verdict if full else ""]
    ]
    lines = [
        f"# All benchmarks, {about['date']}",
        "",
        (
            f"vidembed at `{about['commit']}`, {about['cpu']}, {about['cores']} cores, load at the "
            f"start {about['load']}; {about['minutes']:g} minutes.{form} {about['note']}"
        ).rstrip(),
        "",
        "Ratios of things run in turn on one machine; the files have the rest. Minutes: "
        + ", ".join(f"{part} {took:g}" for part, took in about["minutes_by_part"].items())
        + ".",
        "",
        "| what | value | aim | met | file |",
        "| --- | ---: | --- | --- | --- |",
        *rows,
        *([""] if failed else []),
        *(f"- {name}: {why}" for name, why in failed.items()),
    ]
    return "\n".join([*lines, ""])
