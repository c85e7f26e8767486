"""Images of items, for people who look at lists: read when they are shown, for these items alone, and as they
are.

What is read is shown in a browser, so it is taken for a picture by its content, and bounded in bytes and
pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mmssl_dist.config.data_sections import Data
from mmssl_dist.config.job import Job
from mmssl_dist.data.files import ITEM_PLACE, RawFile
from mmssl_dist.data.image_header import raster_of
from mmssl_dist.data.readers.base import unreadable
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location

IMAGE = "image"
LARGEST = 500_000  # bytes of one image
MOST_PIXELS = 4_000_000  # of one image: a few bytes may say that they are a picture of any size
TOGETHER = 16_000_000  # bytes of all
_RULE = "it must be readable Parquet"
_ROWS = 16  # of images in memory at once


@dataclass(frozen=True)
class Image:
    """A picture file: its MIME type and its content."""

    kind: str
    content: bytes


@dataclass(frozen=True)
class Images:
    """``found``: by the text of the item's id. ``left_out``: why others are not -> how many items."""

    found: dict[str, Image]
    left_out: dict[str, int]


def check_images(data: Data, files: Iterable[RawFile]) -> None:
    """Look at the columns of the Parquet files with images.

    Raises:
        InputError: one cannot be read, or has no column with ids, or no binary one with images.
    """
    for file in files:
        with _open(data, file):
            pass


def read_images(job: Job, files: Iterable[RawFile], items: Iterable[object]) -> Images:
    """The images of some items, as far as ``TOGETHER`` reaches in the order given; of items with several the
    last.

    Args:
        files: what ``find_images`` found: Parquet files, or nothing where ``data.images`` is a path with
            {item}.

    Raises:
        InputError: as ``check_images`` does.
    """
    if job.data.images is None:
        return Images({}, {})
    names = list(dict.fromkeys(str(item) for item in items))
    if ITEM_PLACE in job.data.images:
        read = dict(_of_paths(open_location(job.data.path, job.storage), job.data.images, names))
    else:
        read = {}
        for file in files:
            read |= dict(_of_table(job.data, file, names))
    found: dict[str, Image] = {}
    left_out: Counter[str] = Counter()
    together = 0
    for name in names:
        taken = _taken(read.get(name, "not there"), together)
        if isinstance(taken, Image):
            found[name] = taken
            together += len(taken.content)
        else:
            left_out[taken] += 1
    return Images(found, dict(left_out))


def _taken(content: bytes | str, together: int) -> Image | str:
    """The image, or why there is none; ``together``: the bytes of those before."""
    if isinstance(content, str):
        return content
    raster = raster_of(content)
    if raster is None:
        return "neither JPEG, PNG, GIF nor WebP"
    if not 0 < raster.width * raster.height <= MOST_PIXELS:
        return f"over {MOST_PIXELS:,} pixels"
    if together + len(content) > TOGETHER:
        return f"over {TOGETHER:,} bytes with those before"
    return Image(raster.kind, content)


_TOO_LARGE = f"over {LARGEST:,} bytes"


def _of_paths(root: Location, pattern: str, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
    for name in names:
        if not _is_one_name(name):
            yield name, "an id that is no file name"
            continue
        file = root / pattern.replace(ITEM_PLACE, name)
        info = file.info()
        if info.type != pafs.FileType.File:
            continue
        if not root.holds(file):  # by a link
            yield name, "outside data.path"
        elif info.size > LARGEST:
            yield name, _TOO_LARGE
        else:
            yield name, file.read_start(LARGEST)


def _is_one_name(name: str) -> bool:
    """Whether an id can stand in a path without leading elsewhere."""
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\\0")


def _of_table(data: Data, file: RawFile, names: list[str]) -> Iterator[tuple[str, bytes | str]]:
    """Row groups are looked through by their ids; only those with an item asked for are read, a few rows at a
    time."""
    item, wanted = data.columns.item, pa.array(names, pa.string())
    with _open(data, file) as opened:
        try:
            for group in range(opened.num_row_groups):
                ids = opened.read_row_group(group, [item])[item].cast(pa.string())
                if pc.any(pc.is_in(ids, wanted)).as_py():
                    for batch in opened.iter_batches(_ROWS, row_groups=[group], columns=[item, IMAGE]):
                        chosen = batch.filter(pc.is_in(batch[item].cast(pa.string()), wanted))
                        for row in chosen.to_pylist():
                            if row[IMAGE] is not None:
                                yield str(row[item]), _TOO_LARGE if len(row[IMAGE]) > LARGEST else row[IMAGE]
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise unreadable(file, error, _RULE, "Mend the file.") from error


def _open(data: Data, file: RawFile) -> Any:
    try:
        opened = pq.ParquetFile(file.location.path, filesystem=file.location.filesystem, buffer_size=1 << 20)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(file, error, _RULE, "Mend the file.") from error
    schema = opened.schema_arrow
    for name in (data.columns.item, IMAGE):
        if name not in schema.names:
            raise InputError(
                file.name,
                f"columns {', '.join(schema.names)}",
                f"a column {name} is needed",
                "Rename one; data.columns.item names the one with ids.",
            )
    kind = schema.field(IMAGE).type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            file.name,
            f"column {IMAGE} of type {kind}",
            "it holds the bytes of image files (binary)",
            "Write the files' content, or give a path with {item} in data.images.",
        )
    return opened
