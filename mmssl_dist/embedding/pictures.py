"""Pictures as encoders take them: decoded within bounds, and a reason for each that is not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
LARGEST_BYTES = 1 << 28
"""Of one file; what is larger is no picture of an item."""
UNREADABLE = "unreadable picture"


def too_large(max_pixels: int) -> str:
    """Why a picture of more pixels is left out."""
    return f"over {max_pixels:,} pixels"


def decode(content: bytes, max_pixels: int) -> Image | str:
    """The picture in RGB, upright; or why there is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    # Whatever a file makes a decoder do wrong
    broken = (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            # By the header, before any pixel is decoded: a few bytes may claim any size.
            if opened.width * opened.height > max_pixels:
                return too_large(max_pixels)
            upright = ImageOps.exif_transpose(opened)
            return (opened if upright is None else upright).convert("RGB")
    except (Image.DecompressionBombError, MemoryError):
        return too_large(max_pixels)
    except (*broken, struct.error, zlib.error, OverflowError, NotImplementedError):
        return UNREADABLE
