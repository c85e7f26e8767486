"""Pictures as encoders take them: decoded within bounds, and a reason for each that is not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
LARGEST_BYTES = 1 << 28
"""Of one file; what is larger is no picture of an item."""
_WHITE_16 = (1 << 16) - 1
UNREADABLE = "unreadable picture"


def too_large(max_pixels: int) -> str:
    """Why a picture of more pixels is left out."""
    return f"over {max_pixels:,} pixels"


def decode(content: bytes, max_pixels: int) -> Image | str:
    """The picture in RGB, upright, on white where it is transparent; or why there is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    # Whatever a file makes a decoder do wrong
    broken = (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
    try:
        with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as opened:
            # By the header, before any pixel is decoded: a few bytes may claim any size.
            if opened.width * opened.height > max_pixels:
                return too_large(max_pixels)
            upright = ImageOps.exif_transpose(opened)
            return _in_rgb(opened if upright is None else upright)
    except (Image.DecompressionBombError, MemoryError):
        return too_large(max_pixels)
    except (*broken, struct.error, zlib.error, OverflowError, NotImplementedError):
        return UNREADABLE


def _in_rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits of grey, of which Pillow would clip all above 255
        values = np.array(picture).astype(np.uint32)
        values[values == picture.info.get("transparency")] = _WHITE_16
        values *= 255  # in place, since a picture may have many pixels
        values += _WHITE_16 // 2  # so that the division rounds
        values //= _WHITE_16
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    # What is invisible has any colour, as a rule black: a black shape would vanish in it.
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white.convert("RGB")
