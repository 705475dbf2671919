"""The table of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from vidembed.commands.console import console
from vidembed.encode import registry

if TYPE_CHECKING:
    from vidembed.config import EncodersConfig
    from vidembed.encode.entry import Entry


def encoders(options: EncodersConfig) -> int:
    if options.name is not None:
        _one_encoder(registry.entry(options.name))
        return 0
    table = Table(box=None, pad_edge=False)
    columns = ("name", "modalities", "dim", "frames", "size", "parameters", "GMACs", "weights")
    for name in (*columns, "licence"):
        table.add_column(name, overflow="fold")
    for row in registry.ENTRIES.values():
        weights = "shipped" if row.shipped else row.weights or "yours"
        table.add_row(
            row.name,
            ", ".join(row.modalities),
            row.dim,
            row.frames,
            str(row.default.resize.crop),
            row.parameters,
            row.gmacs,
            weights,
            row.licence,
        )
    console().print(table)
    print("\nvidembed encoders NAME says how to get the weights of one and how to use it.")
    return 0


def _one_encoder(row: Entry) -> None:
    size = row.default.resize.crop
    facts: dict[str, Any] = {
        "modalities": ", ".join(row.modalities),
        "dim": row.dim,
        "frames": row.frames,
        "size": f"{size} x {size} pixels",
        "metric": row.metric,
        **{f"--preset {name}": preset.text for name, preset in row.presets.items()},
        "parameters": row.parameters,
        "GMACs a clip": row.gmacs,
        "licence": row.licence,
        "source": row.source,
        "weights": row.obtain,
        "published": row.published,
        "notes": "\n".join(row.notes),
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    console().print(f"{row.name}\n")
    console().print(table)
    given = "" if row.shipped else " --weights FOLDER_OR_FILE"
    print(f"\nvidembed embed MANIFEST --out RUN --encoder {row.name}{given}")
