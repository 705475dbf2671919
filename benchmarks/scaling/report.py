"""The result as a page."""

from __future__ import annotations

from typing import Any

import numpy as np

_MIB = 1 << 20
_LINES = 30
_ATTEMPT = (
    "attempt",
    "rows",
    "seconds",
    "rows/s while writing",
    "driver MiB: first, median, most",
    "driver's slope, bytes a video",
    "most of all processes, MiB",
    "object store touched, MiB",
    "CPU ms a video",
)
_MINUTE = (
    "attempt",
    "minute",
    "rows",
    "videos/s",
    "driver MiB",
    "GCS MiB",
    "raylet MiB",
    "monitor MiB",
    "workers MiB",
    "processes",
)


def markdown(result: dict[str, Any]) -> str:
    about, checked = result["about"], result["check"]
    title = f"# {about['videos']:,} videos, stages that cost nothing, {about['date']}\n"
    versions = f"Python {about['python']}, Ray {about['ray']}, pyarrow {about['pyarrow']}"
    load = f"load before {about['load_before']:.1f}"
    where = f"on {about['cpu']}, {about['cores']} cores, {about['memory_gib']:.0f} GiB, no GPU"
    lines = [
        title,
        f"vidembed at `{about['commit']}`, {where}; {versions}; {load}.\n",
        *([about["note"] + "\n"] if about["note"] else []),
        *_summary(result),
        "## Each attempt\n",
        *_attempts(result["attempts"]),
        "## Over time\n",
        *_series(result["attempts"]),
        "## Each video once, looked for by pyarrow alone\n",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value:,} |" for name, value in checked.items()),
        "",
    ]
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> list[str]:
    attempts, again = result["attempts"], result["again"]
    done = [a["rows_after"] - a["rows_before"] for a in attempts]
    seconds = sum(a["seconds"] for a in attempts)
    rows = [f"| all of it, with the kill | {seconds:,.0f} s, {sum(done) / seconds:,.0f} videos/s |"]
    if result["gone_s"] is not None:
        last = attempts[-1]
        rows += [
            f"| rows durable when it was killed | {attempts[0]['rows_after']:,} |",
            f"| from the kill to its last worker gone | {result['gone_s']:.1f} s |",
            f"| resumed: to Ray's first process | {last['ray_s']:.1f} s |",
            f"| resumed: to the first new part | {last['first_part_s']:.1f} s |",
        ]
    rows += [f"| the command again, where all is done | {again['seconds']:.1f} s |"]
    return ["| | |", "| --- | --- |", *rows, ""]


def _heads(names: tuple[str, ...]) -> str:
    return f"| {' | '.join(names)} |"


def _attempts(attempts: list[dict[str, Any]]) -> list[str]:
    lines = [
        _heads(_ATTEMPT),
        "| --- " * len(_ATTEMPT) + "|",
    ]
    for number, attempt in enumerate(attempts, 1):
        rows = attempt["rows_after"] - attempt["rows_before"]
        series = steady(attempt)
        driver = [s["own"].get("driver", 0) / _MIB for s in series] or [0.0]
        every = [sum(s["own"].values()) / _MIB for s in attempt["samples"]]
        most = max(s["own"].get("driver", 0) for s in attempt["samples"]) / _MIB
        lines.append(
            f"| {number} | {rows:,} | {attempt['seconds']:,.0f} | {rate(attempt):,.0f} "
            f"| {driver[0]:,.0f}, {np.median(driver):,.0f}, {most:,.0f} | {slope(attempt):,.1f} "
            f"| {max(every):,.0f} | {max(s['store'] for s in attempt['samples']) / _MIB:,.0f} "
            f"| {1000 * sum(attempt['cpu_s'].values()) / max(1, rows):.3f} |"
        )
    lines.append("")
    lines.append("Processor seconds by kind of process:\n")
    kinds = list(dict.fromkeys(k for a in attempts for k in a["cpu_s"]))
    lines += ["| attempt | " + " | ".join(kinds) + " |", "| --- " * (len(kinds) + 1) + "|"]
    for number, attempt in enumerate(attempts, 1):
        cells = " | ".join(f"{attempt['cpu_s'].get(kind, 0.0):,.0f}" for kind in kinds)
        lines.append(f"| {number} | {cells} |")
    return [*lines, ""]


def steady(attempt: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples between an attempt's first part and its last."""
    last = max(s["rows"] for s in attempt["samples"])
    return [s for s in attempt["samples"] if attempt["rows_before"] < s["rows"] < last]


def rate(attempt: dict[str, Any]) -> float:
    series = steady(attempt)
    if len(series) < 2:
        return 0.0
    return float(
        (series[-1]["rows"] - series[0]["rows"]) / (series[-1]["seconds"] - series[0]["seconds"])
    )


def slope(attempt: dict[str, Any]) -> float:
    """Bytes by which the driver's own memory grows with each video, by least squares."""
    series = steady(attempt)
    if len(series) < 3:
        return float("nan")
    rows = np.array([s["rows"] for s in series], float)
    own = np.array([s["own"].get("driver", 0) for s in series], float)
    return float(np.polyfit(rows, own, 1)[0])


def _series(attempts: list[dict[str, Any]]) -> list[str]:
    lines = [
        _heads(_MINUTE),
        "| --- " * len(_MINUTE) + "|",
    ]
    for number, attempt in enumerate(attempts, 1):
        minutes = attempt["seconds"] / 60
        step = max(0.25, round(minutes / _LINES * 4) / 4)
        before, due = None, step
        for sample in attempt["samples"]:
            if sample["seconds"] < 60 * due:
                continue
            due += step
            lines.append(_line(number, sample, before))
            before = sample
    return [*lines, ""]


def _line(number: int, sample: dict[str, Any], before: dict[str, Any] | None) -> str:
    own = {kind: size / _MIB for kind, size in sample["own"].items()}
    named = ("driver", "gcs_server", "raylet", "monitor")
    rest = sum(size for kind, size in own.items() if kind not in named)
    made = ""
    if before:
        made = f"{(sample['rows'] - before['rows']) / (sample['seconds'] - before['seconds']):,.0f}"
    cells = " | ".join(f"{own.get(kind, 0.0):,.0f}" for kind in named)
    return (
        f"| {number} | {sample['seconds'] / 60:.1f} | {sample['rows']:,} | {made} | {cells} "
        f"| {rest:,.0f} | {sample['processes']} |"
    )
