"""Which packets hold pictures that no other picture refers to, read from the bitstream itself.

Such a packet that nobody wants need not be decoded, and every other frame stays bit for bit the
same. H.264: ITU-T H.264 §7.4.1 (nal_ref_idc); HEVC: ITU-T H.265 §7.4.2.2 (sub-layer non-reference
pictures); AV1: the AV1 specification §5.9.2 (refresh_frame_flags); MPEG-2 and MPEG-4: B pictures.
VP8 and VP9 are left out: there every frame may hand on its probabilities and motion vectors.
Flags of the container are not believed: a wrong one would cost the frames that follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Test = Callable[[memoryview], bool]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges packets by their bytes.

    unreferenced: no other picture refers to what the packet holds; False where in doubt.
    is_entered: a decoder can begin at this keyframe and show it; True where nothing speaks against
    it.
    """

    unreferenced: Test
    is_entered: Test


def judge(codec: str, extradata: bytes | None) -> Judge | None:
    """None for codecs that cannot be judged. codec: the name of the codec (not of the decoder);
    extradata: as the container has it.
    """
    maker = _JUDGES.get(codec)
    if maker is None:
        return None
    is_entered = _has_idr(extradata or b"") if codec == "h264" else _always
    return Judge(maker(extradata or b""), is_entered)


def _h264(extradata: bytes) -> Test:
    units = _units_of(extradata, length_at=4)

    def unreferenced(data: memoryview) -> bool:
        pictures = False
        for at in units(data):
            kind = data[at] & 31
            if kind in _H264_SETS or (1 <= kind <= 5 and data[at] >> 5 & 3):
                return False
            pictures = pictures or 1 <= kind <= 5
        return pictures

    return unreferenced


def _has_idr(extradata: bytes) -> Test:
    """Other keyframes of H.264 are recovery points: some pictures may have to pass first."""
    units = _units_of(extradata, length_at=4)
    return lambda data: any(data[at] & 31 == 5 for at in units(data))


# Sequence and picture parameter sets, and the end of a sequence: they speak of what follows.
_H264_SETS = frozenset({7, 8, 10, 11, 13, 15})


def _hevc(extradata: bytes) -> Test:
    units = _units_of(extradata, length_at=21)
    layers = _hevc_sub_layers(extradata)

    def unreferenced(data: memoryview) -> bool:
        pictures = False
        for at in units(data):
            kind = data[at] >> 1 & 63
            if kind < 32:
                # Even types up to 14 are not referred to within their own sub-layer; in the
                # highest one, that is by nobody.
                if kind > 14 or kind % 2 or (data[at + 1] & 7) - 1 != layers - 1:
                    return False
                pictures = True
            elif kind in (32, 33, 34, 36, 37):
                return False
        return pictures

    return unreferenced if layers else _never


def _hevc_sub_layers(extradata: bytes) -> int:
    """Temporal sub-layers by the sequence parameter set; 0 where there is none to be read."""
    for nal in _hevc_sets(extradata):
        if len(nal) > 2 and nal[0] >> 1 & 63 == 33:
            return (nal[2] >> 1 & 7) + 1
    return 0


def _hevc_sets(extradata: bytes) -> Iterator[bytes]:
    if extradata[:1] != b"\x01":
        view = memoryview(extradata)
        for at in _start_codes(view):
            yield bytes(view[at : at + 3])
        return
    at = 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + length]
            at += 2 + length


def _units_of(extradata: bytes, length_at: int) -> Callable[[memoryview], Iterator[int]]:
    """How a packet is cut into NAL units: by lengths (MP4, Matroska) or by start codes."""
    if extradata[:1] == b"\x01" and len(extradata) > length_at:
        size = (extradata[length_at] & 3) + 1
        return lambda data: _by_length(data, size)
    return _start_codes


def _by_length(data: memoryview, size: int) -> Iterator[int]:
    at = 0
    while at + size + 1 < len(data):
        yield at + size
        at += size + int.from_bytes(data[at : at + size], "big")


def _start_codes(data: memoryview) -> Iterator[int]:
    whole = bytes(data)
    at = whole.find(b"\0\0\1")
    while 0 <= at < len(whole) - 4:
        yield at + 3
        at = whole.find(b"\0\0\1", at + 3)


def _mpeg4(_extradata: bytes) -> Test:
    def unreferenced(data: memoryview) -> bool:
        kinds = [data[at + 1] >> 6 for at in _start_codes(data) if data[at] == 0xB6]
        # A B picture is 2. A packet of a P and a B picture together is not to be dropped.
        return bool(kinds) and all(kind == 2 for kind in kinds)

    return unreferenced


def _mpeg2(_extradata: bytes) -> Test:
    def unreferenced(data: memoryview) -> bool:
        codes = [at for at in _start_codes(data) if data[at] in (0x00, 0xB3, 0xB8)]
        return bool(codes) and all(data[at] == 0 and data[at + 2] >> 3 & 7 == 3 for at in codes)

    return unreferenced


def _av1(extradata: bytes) -> Test:
    sequence = _Av1Sequence.parse(extradata[4:])
    if sequence is None:
        return _never

    def unreferenced(data: memoryview) -> bool:
        pictures = False
        for kind, payload in _obus(data):
            if kind == 1:
                return False
            if kind in (3, 6):
                if not sequence.keeps_nothing(payload):
                    return False
                pictures = True
        return pictures

    return unreferenced


def _obus(data: Any) -> Iterator[tuple[int, bytes]]:
    """(type, the first bytes of the payload) of each open bitstream unit."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 4 else 1
        if not head & 2:
            yield head >> 3 & 15, bytes(data[at : at + 64])
            return
        size = shift = 0
        while at < len(data):
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
        yield head >> 3 & 15, bytes(data[at : at + min(size, 64)])
        at += size


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & ((1 << count) - 1)


class _Av1Sequence:
    """What of a sequence header the frame headers depend on, up to their refresh_frame_flags."""

    screen: int
    integer_mv: int
    id_bits: int
    order_bits: int

    @classmethod
    def parse(cls, data: bytes) -> _Av1Sequence | None:
        """None for still pictures, scalable streams and streams with a decoder model."""
        for kind, payload in _obus(data):
            if kind == 1:
                try:
                    return cls._parse(_Bits(payload))
                except EOFError:
                    return None
        return None

    @classmethod
    def _parse(cls, bits: _Bits) -> _Av1Sequence | None:
        found = cls()
        bits(3)
        if bits(2):
            return None
        if bits(1):
            return None  # timing information: rare, and the frame headers grow by it
        delay = bits(1)
        if bits(5) or bits(12):
            return None
        if bits(5) > 7:
            bits(1)
        if delay and bits(1):
            bits(4)
        width, height = bits(4) + 1, bits(4) + 1
        bits(width)
        bits(height)
        found.id_bits = bits(4) + 2 + bits(3) + 1 if bits(1) else 0
        bits(3 + 4)
        ordered = bits(1)
        if ordered:
            bits(2)
        found.screen = 2 if bits(1) else bits(1)
        found.integer_mv = 2
        if found.screen:
            found.integer_mv = 2 if bits(1) else bits(1)
        found.order_bits = bits(3) + 1 if ordered else 0
        return found

    def keeps_nothing(self, frame_header: bytes) -> bool:
        """Whether a frame is shown and no reference slot takes it."""
        try:
            return self._keeps_nothing(_Bits(frame_header))
        except EOFError:
            return False

    def _keeps_nothing(self, bits: _Bits) -> bool:
        if bits(1):
            return False  # an earlier frame shown again: costs nothing
        kind, shown = bits(2), bits(1)
        if kind in (0, 3) or not shown:
            return False
        resilient = bits(1)
        bits(1)
        screen = bits(1) if self.screen == 2 else self.screen
        if screen and self.integer_mv == 2:
            bits(1)
        bits(self.id_bits + 1 + self.order_bits)
        if kind != 2 and not resilient:
            bits(3)
        return bits(8) == 0


def _never(_data: memoryview) -> bool:
    return False


def _always(_data: memoryview) -> bool:
    return True


_JUDGES: dict[str, Callable[[bytes], Test]] = {
    "h264": _h264,
    "hevc": _hevc,
    "av1": _av1,
    "mpeg4": _mpeg4,
    "mpeg2video": _mpeg2,
    "mpeg1video": _mpeg2,
}
