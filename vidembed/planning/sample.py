"""Which rows of a manifest are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from vidembed.manifest import Manifest


def sample(manifest: Manifest, count: int, seed: int) -> pa.Table:
    """One row, drawn at random, out of each of `count` equal stretches of the manifest, in an
    order drawn at random; all rows of a manifest that has no more.

    Manifests are often sorted, by date, by source, by length: each part of one has its say.
    """
    count = min(count, manifest.rows)
    rng = np.random.default_rng(seed)
    edges = np.arange(count + 1) * manifest.rows // count
    wanted = rng.integers(edges[:-1], edges[1:])
    found: list[pa.Table] = []
    position = 0
    for table in manifest.tables():
        mine = wanted[(wanted >= position) & (wanted < position + len(table))]
        if len(mine):
            found.append(table.take(pa.array(mine - position)))
        position += len(table)
    rows = pa.concat_tables(found)
    return rows.take(pa.array(rng.permutation(len(rows))))
