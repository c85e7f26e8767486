"""Pictures within bounds are decoded; others come with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

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


def _pixels(picture: Image.Image, **options: object) -> list[list[int]]:
    """The first row of a PNG of ``picture`` as it is decoded."""
    content = io.BytesIO()
    picture.save(content, "PNG", **options)
    decoded = decode(content.getvalue(), max_pixels=1000)
    assert not isinstance(decoded, str)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)[0].tolist()


def test_transparent_pictures_are_on_white():
    white, black = [255] * 3, [0] * 3
    # A black shape on a transparent background that is black too, and half of a red
    colours = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 128]]], np.uint8)
    assert _pixels(Image.fromarray(colours)) == [white, black, [255, 127, 127]]
    assert _pixels(Image.fromarray(colours[:, :, 2:])) == [white, black, [127] * 3]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    assert _pixels(palette, transparency=0) == [white, black]
    assert _pixels(palette, transparency=b"\x00\x80") == [white, [127] * 3]
    opaque = Image.fromarray(np.array([[0, 200]], np.uint8))
    assert _pixels(opaque) == [black, [200] * 3]
    assert _pixels(opaque, transparency=0) == [white, [200] * 3]


def test_grey_of_16_bits_is_scaled():
    ramp = Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16)[None])
    assert _pixels(ramp) == [[value] * 3 for value in range(256)]
    assert _pixels(ramp, transparency=0)[:2] == [[255] * 3, [1] * 3]
