"""What `plan` prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.table import Table

from vidembed import sources
from vidembed.commands.console import console

if TYPE_CHECKING:
    from vidembed.config import PlanConfig
    from vidembed.planning import Plan
    from vidembed.planning.result import Interval, Outlook

_MOVED = 1.02


def plan(options: PlanConfig) -> int:
    from vidembed.planning import plan as job

    found = job(options, lambda sentence: print(sentence, file=sys.stderr, flush=True))
    if options.out is not None:
        sources.write_whole(sources.absolute(options.out), found.json().encode())
    if options.as_json:
        print(found.json(), end="")
    else:
        show_plan(found)
    return 0


def show_plan(plan: Plan) -> None:
    _head(plan)
    console().print(_figures(plan))
    print()
    _this_machine(plan)
    if plan.cpus_per_gpu:
        print()
        for kind, cpus in plan.cpus_per_gpu.items():
            print(f"CPUs that keep one {kind} busy: {cpus:.1f}")
    if plan.outlooks:
        print()
        print(_title(plan))
        console().print(_outlooks(plan))
        _winners(plan)
    if plan.not_measured:
        print("\nleft out:")
        for line in _gathered(plan.not_measured):
            print(f"  {line}")
    print("\nassumed: " + "; ".join(plan.assumptions))
    for warning in plan.warnings:
        print(f"warning: {warning}")


def _head(plan: Plan) -> None:
    machine = plan.machine
    gpu = f"{machine['gpus']:g} × {machine['gpu']}" if machine["gpus"] else "no GPU"
    print(
        f"{plan.videos:,} videos with {', '.join(plan.encoders)}; measured on {plan.sampled:,} of "
        f"them, on {machine['cpus']:g} CPUs, {gpu}, load {machine['load']:.1f}\n"
    )


def _figures(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "mean", "", "95% interval", "", ""):
        table.add_column(name, justify="right" if name == "mean" else "left")
    for each in plan.figures:
        interval = _between(each.interval)
        table.add_row(each.name, _amount(each.value), each.unit, interval, each.origin, each.note)
    return table


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{_amount(interval[0])} … {_amount(interval[1])}"


def _amount(value: float) -> str:
    """Three digits that count."""
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.2g}"


def _this_machine(plan: Plan) -> None:
    here = plan.here
    print(
        f"on this machine: {duration(here.seconds)} ({_durations(here.seconds_interval)}), "
        f"{_amount(here.videos_per_s)} videos/s, {_bound(here)}"
    )
    limits = ", ".join(
        f"{name} {_amount(rate)}" for name, rate in here.limits.items() if rate < float("inf")
    )
    print(f"  videos/s that each part allows: {limits}")
    print(f"  {_moves(here)}")


def _title(plan: Plan) -> str:
    prices = plan.prices
    deadline = plan.deadline_hours
    by = "" if deadline is None else f" done in {deadline:g} h"
    return (
        f"clusters for {plan.videos:,} videos{by}; {prices['kind']} prices of {prices['file']}, "
        f"{prices['region']}, {prices['date']}, {prices['currency']}"
    )


def _outlooks(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    right = ("videos/s", "cost")
    for name in (
        "nodes",
        "videos/s",
        "time",
        "95%",
        "cost",
        "bottleneck",
        "twice as many",
        "embed",
    ):
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for each in plan.outlooks:
        late = "" if each.met is not False else ", too late"
        store = "" if _fits(each) else "; the object store spills"
        table.add_row(
            each.name,
            _amount(each.videos_per_s),
            duration(each.seconds) + late,
            _durations(each.seconds_interval),
            "–" if each.cost is None else f"{each.cost:,.2f}",
            _bound(each) + store,
            _moves(each),
            each.flags,
        )
    return table


def _fits(outlook: Outlook) -> bool:
    return outlook.store_limit is None or outlook.store_bytes <= outlook.store_limit


def _bound(outlook: Outlook) -> str:
    return f"{outlook.bottleneck}-bound ({outlook.next} at {outlook.next_gain:.1f}x)"


def _moves(outlook: Outlook) -> str:
    told = [
        f"{move.what}: {move.gain:.1f}x" + (f", then {move.then}" if move.gain < 1.9 else "")
        for move in outlook.moves
        if move.gain >= _MOVED
    ]
    return "\n".join(told) or "brings nothing"


def _winners(plan: Plan) -> None:
    cheapest, fastest = plan.cheapest, plan.fastest
    if cheapest is not None and cheapest.cost is not None and cheapest.cost_interval is not None:
        low, high = cheapest.cost_interval
        print(
            f"cheapest: {cheapest.name}, {cheapest.cost:,.2f} {plan.prices['currency']} "
            f"({low:,.2f} … {high:,.2f}) in {duration(cheapest.seconds)}"
        )
    if fastest is not None:
        print(f"fastest: {fastest.name}, {duration(fastest.seconds)}")


def _gathered(lines: tuple[str, ...]) -> list[str]:
    """Types with one reason on one line."""
    names: dict[str, list[str]] = {}
    for line in lines:
        name, _, reason = line.partition(": ")
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(several)}: {reason}" for reason, several in names.items()]


def _durations(interval: tuple[float, float]) -> str:
    return f"{duration(interval[0])} … {duration(interval[1])}"


def duration(seconds: float) -> str:
    """As people say it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
