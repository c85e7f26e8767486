"""What kind of picture some bytes are and how large it is, from its first bytes: nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from

_PNG, _WEBP_CHUNKS = b"\x89PNG\r\n\x1a\n", (b"VP8 ", b"VP8L", b"VP8X")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # JPEG's markers of a frame; those three are tables
_BARE = frozenset((0x01, *range(0xD0, 0xDA)))  # markers without a length


@dataclass(frozen=True)
class Raster:
    """A picture's MIME type, and its width and height in pixels."""

    media_type: str
    width: int
    height: int


def raster_of(content: bytes) -> Raster | None:
    """What the bytes of a JPEG, PNG, GIF or WebP file say they are; None for anything else, SVG included."""
    try:
        if content.startswith(_PNG) and content[12:16] == b"IHDR":
            return Raster("image/png", *unpack_from(">II", content, 16))
        if content.startswith((b"GIF87a", b"GIF89a")):
            return Raster("image/gif", *unpack_from("<HH", content, 6))
        if content.startswith(b"\xff\xd8\xff"):
            return _jpeg(content)
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            return _webp(content)
    except struct_error:  # it ends within its head
        return None
    return None


def _jpeg(content: bytes) -> Raster | None:
    """Walks from segment to segment until a frame tells the size."""
    # After the two bytes that open the file; each segment says how long it is.
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = unpack_from(">HH", content, at + 5)
            return Raster("image/jpeg", width, height)
        else:
            # At least its own two bytes, or a length of 0 would keep the walk in place for ever.
            at += 2 + max(2, unpack_from(">H", content, at + 2)[0])
    return None


def _webp(content: bytes) -> Raster | None:
    chunk = content[12:16]
    if chunk not in _WEBP_CHUNKS:
        return None
    if chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in unpack_from("<HH", content, 26))
    elif chunk == b"VP8L":
        (bits,) = unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        # 24-bit numbers, which struct lacks: two bytes and one more.
        (low, wide, high) = unpack_from("<HBH", content, 24)
        width, height = (low | wide << 16) + 1, (high | unpack_from("<B", content, 29)[0] << 16) + 1
    return Raster("image/webp", width, height)
