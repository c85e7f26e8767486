"""Pictures within bounds are decoded; others come with a reason."""

from __future__ import annotations

import struct
import zlib

import pytest

from mmssl_dist.embedding.pictures import UNREADABLE, decode, too_large
from tests.pictures import PICTURES


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("name", PICTURES)
def test_every_format_becomes_rgb(name):
    picture = decode(PICTURES[name], max_pixels=1000)
    assert not isinstance(picture, str)
    # The JPEG lies on its side, and says so in its EXIF data.
    assert (picture.mode, picture.size) == ("RGB", (17, 24) if name == "jpeg" else (24, 17))


def test_pixels_are_bounded_by_the_header():
    assert decode(PICTURES["png"], max_pixels=24 * 17 - 1) == too_large(24 * 17 - 1)
    # Far more than memory holds, in a few bytes
    assert decode(_png(60_000, 60_000), max_pixels=50_000_000) == "over 50,000,000 pixels"
    assert decode(_png(2**31 - 1, 2**31 - 1), max_pixels=50_000_000) == "over 50,000,000 pixels"


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", PICTURES["jpeg"][:200], PICTURES["png"][:60], _png(8, 8), b"GIF89a" + bytes(40)],
)
def test_what_is_not_a_whole_picture_is_unreadable(content):
    assert decode(content, max_pixels=1000) == UNREADABLE
