"""How much goes into a block, a batch and a part, and how many decoders so much work is worth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vidembed import sources
from vidembed.errors import ClipError
from vidembed.pipeline.object_store import Portions
from vidembed.pipeline.pending import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from vidembed.access import Access
    from vidembed.amounts import ActorRange
    from vidembed.clips import ClipSpec
    from vidembed.pipeline.pools import Pools

# Videos a block, and the least blocks of each decoder. Each block costs the driver some
# milliseconds; but what is left of a window when other decoders are done is up to a block, and so
# is what one that dies has to do again: large ones are for windows that are larger yet.
_SMALL_BLOCKS = (16, 8)
_LARGE_BLOCKS = (128, 64)
# A decoder's start costs as much as decoding so many short videos: no more are started at once than
# get them.
_VIDEOS_A_DECODER = 16
# Of few videos the sizes are looked at: decoding so much takes about as long as a decoder's start,
# and Ray Data would start one for each that waits.
_FEW_VIDEOS = 64
_BYTES_A_DECODER = 2 << 20
# Of a part. Large files read well; small ones lose less to a kill, which is why a job of fewer
# videos makes parts of a sixteenth of them.
_PART_BYTES = 16 << 20
_ROW_BYTES = 400
_PARTS = 16
_WHOLE_PORTIONS = Portions()


def blocks(window: pa.Table, rows: int) -> Iterator[pa.Table]:
    for at in range(0, len(window), rows):
        yield window.slice(at, rows)


def rows_per_block(pending: int, pools: Pools) -> int:
    """Videos a block: few enough that every decode actor gets several blocks of each window."""
    videos = min(pending, WINDOW) // pools.decode.most
    return max(1, *(min(most, videos // least) for most, least in (_SMALL_BLOCKS, _LARGE_BLOCKS)))


def first_decoders(pending: int, pools: Pools) -> int:
    """Decoders that are started at once. Ray Data adds the others where it sees room, of which it
    sees too little on a machine of few CPUs.
    """
    return max(pools.decode.least, min(pools.decode_first, pending // _VIDEOS_A_DECODER))


def most_decoders(window: pa.Table, access: Access, decode: ActorRange) -> int:
    """Decoders that the pool may grow to: no more than a few small videos keep busy."""
    if len(window) > _FEW_VIDEOS:
        return decode.most
    sizes = [_size(uri, access) for uri in window["uri"].to_pylist()]
    known = sum(size for size in sizes if size is not None)
    if None in sizes:
        return decode.most
    return max(decode.least, min(decode.most, 1 + known // _BYTES_A_DECODER))


def _size(uri: str, access: Access) -> int | None:
    """Bytes of a local file; none where it will not be decoded. None of what lies elsewhere."""
    if not sources.is_local(uri):
        return None
    try:
        access.check(uri)
        return os.stat(sources.local_path(uri)).st_size
    except (ClipError, OSError, ValueError):
        return 0


def batch_rows(wanted: int, clips: Iterable[ClipSpec], portions: Portions = _WHOLE_PORTIONS) -> int:
    """Clips a batch of the encoders: as asked for, or what fits into a batch's bytes. A clip of ten
    windows has 48 MB.
    """
    size = sum(clip.nbytes for clip in clips)
    return max(1, min(wanted, portions.batch_bytes // size))


def rows_per_part(pending: int, dims: Iterable[int]) -> int:
    """Clips a part: what makes 16 MB of the widest vectors, or less where a job has less to do."""
    full = _PART_BYTES // (4 * max(dims) + _ROW_BYTES)
    return max(8, min(full, pending // _PARTS))
