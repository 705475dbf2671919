"""What kind of container a file is, by its first bytes: its name may say anything."""

from __future__ import annotations

from typing import NamedTuple

HEAD = 1024
"""How many bytes of a file's beginning tell."""

_TS_PACKET = 188


class Container(NamedTuple):
    name: str
    media_type: str


_BRANDS = {b"qt  ": Container("MOV", "video/quicktime"), b"M4V ": Container("MP4", "video/mp4")}
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")


def container(head: bytes) -> Container | None:
    """The container of a file that begins with `head`; None for what holds no video: a text, a
    page, an archive.
    """
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], Container("MP4", "video/mp4"))
    if head[4:8] in _ATOMS:
        # Without a brand it is QuickTime's old form.
        return Container("MOV", "video/quicktime")
    for matches, found in (
        (head[:4] == b"\x1a\x45\xdf\xa3", _matroska(head)),
        (head[:4] == b"RIFF" and head[8:12] == b"AVI ", Container("AVI", "video/x-msvideo")),
        (head[:4] == b"OggS", Container("Ogg", "video/ogg")),
        (head[:3] == b"FLV", Container("FLV", "video/x-flv")),
        (head[:4] in (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"), Container("MPEG", "video/mpeg")),
        (head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("WMV", "video/x-ms-wmv")),
        (head[:6] in (b"GIF87a", b"GIF89a"), Container("GIF", "image/gif")),
        (_is_transport_stream(head), Container("MPEG-TS", "video/mp2t")),
    ):
        if matches:
            return found
    return None


def _matroska(head: bytes) -> Container:
    if b"webm" in head[:64]:
        return Container("WebM", "video/webm")
    return Container("Matroska", "video/x-matroska")


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes, each of which begins with 0x47."""
    return len(head) > 2 * _TS_PACKET and all(
        head[at] == 0x47 for at in (0, _TS_PACKET, 2 * _TS_PACKET)
    )
