"""Images of items, for people who look at lists: read when they are shown, for these items alone, and as they
are.

What is read is shown in a browser, so it is taken for a picture by its content, and bounded in bytes and
pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from mmssl_dist.config.data_sections import Data
from mmssl_dist.config.job import Job
from mmssl_dist.data.files import ITEM_PLACE, RawFile
from mmssl_dist.data.ids import id_texts, plain_values, storage_type
from mmssl_dist.data.image_header import raster_of
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.parquet import (
    BATCH_ROWS,
    Footer,
    batches,
    read_footers,
    require_column,
    require_columns,
)
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location
from mmssl_dist.storage.remote import is_web

IMAGE = "image"
LARGEST = 500_000  # bytes of one image
MOST_PIXELS = 4_000_000  # of one image: a few bytes may say that they are a picture of any size
TOGETHER = 16_000_000  # bytes of all
_ROWS = 16  # of images in memory at once


@dataclass(frozen=True)
class Image:
    """A picture file: its MIME type and its content."""

    media_type: str
    content: bytes


@dataclass(frozen=True)
class Images:
    """``by_item``: by the text of the item's id. ``left_out``: why others are not -> how many items."""

    by_item: dict[str, Image]
    left_out: dict[str, int]


def check_images(data: Data, files: Iterable[RawFile]) -> None:
    """Look at the columns of the Parquet files with images.

    Raises:
        InputError: one cannot be read, or has no column with ids, or no binary one with images.
    """
    for file in files:
        _footer(data, file)


def check_picture_folder(job: Job) -> None:
    """Look for the folder of pictures where ``data.images`` is a path for each item.

    Raises:
        InputError: there is none.
    """
    pattern, key = job.data.images, "data.images"
    if pattern is None or ITEM_PLACE not in pattern:
        return
    root = open_location(job.data.path, job.storage)
    if is_web(root.scheme):  # which cannot say what folders it has
        return
    folder = root / pattern.partition(ITEM_PLACE)[0].rpartition("/")[0]
    # Items may lack a picture, but not all of them
    if folder.info().type != pafs.FileType.Directory:
        raise InputError(
            folder.url,
            "no such folder",
            f"{key} names a picture for each item",
            f"Check data.path and {key}.",
        )


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
    items = list(items)
    # Each once and in the order given, as the bytes that are left go to the first ones.
    names = list(dict.fromkeys(map(str, items)))
    if ITEM_PLACE in job.data.images:
        read = dict(_of_paths(open_location(job.data.path, job.storage), job.data.images, names))
    else:
        read = {}
        for file in files:
            read |= dict(_of_table(job.data, file, names, items[0] if items else None))
    images: dict[str, Image] = {}
    left_out: Counter[str] = Counter()
    together = 0
    for name in names:
        taken = _taken(read.get(name, "not there"), together)
        if isinstance(taken, Image):
            images[name] = taken
            together += len(taken.content)
        else:
            left_out[taken] += 1
    return Images(images, dict(left_out))


def _taken(content: bytes | str, together: int) -> Image | str:
    """The image, or why there is none; ``together``: the bytes of those before."""
    if isinstance(content, str):
        return content
    raster = raster_of(content)
    # By content and not by name: a browser that is handed something else may run it.
    if raster is None:
        return "neither JPEG, PNG, GIF nor WebP"
    if not 0 < raster.width * raster.height <= MOST_PIXELS:
        return f"over {MOST_PIXELS:,} pixels"
    if together + len(content) > TOGETHER:
        return f"over {TOGETHER:,} bytes with those before"
    return Image(raster.media_type, content)


_TOO_LARGE = f"over {LARGEST:,} bytes"


def _of_paths(root: Location, pattern: str, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
    for name in names:
        if not _is_one_name(name):
            yield name, "an id that is not a file name"
            continue
        file = root / pattern.replace(ITEM_PLACE, name)
        info = file.info()
        # Left out as "not there" by the caller: many items of a catalogue have no picture.
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


def _of_table(data: Data, file: RawFile, names: list[str], like: object) -> Iterator[tuple[str, bytes | str]]:
    """Row groups are looked through by their ids; only those with an item asked for are read, a few rows at a
    time."""
    item, item_texts = data.columns.item, pa.array(names, pa.string())

    def ids(batch: pa.RecordBatch) -> pa.Array:
        return id_texts(pa.chunked_array([batch[item]]), like)

    groups = len(_footer(data, file).group_rows)
    for piece in (Piece(0, group, group + 1) for group in range(groups)):
        if not any(
            pc.any(pc.is_in(ids(batch), value_set=item_texts)).as_py()
            for batch in batches(file, piece, [item], BATCH_ROWS)
        ):
            continue
        for batch in batches(file, piece, [item, IMAGE], _ROWS):
            chosen = batch.filter(pc.is_in(ids(batch), value_set=item_texts))
            contents = plain_values(pa.chunked_array([chosen[IMAGE]])).to_pylist()
            for name, content in zip(ids(chosen).to_pylist(), contents, strict=True):
                if content is not None:
                    yield name, _TOO_LARGE if len(content) > LARGEST else content


def _footer(data: Data, file: RawFile) -> Footer:
    (footer,) = read_footers([file])
    require_columns(file, footer.schema, (data.columns.item, IMAGE))
    require_column(file, footer.schema, data.columns.item)  # one of that name
    raw = storage_type(require_column(file, footer.schema, IMAGE))
    if not (
        pa.types.is_binary(raw)
        or pa.types.is_large_binary(raw)
        or pa.types.is_binary_view(raw)
        or pa.types.is_null(raw)
    ):
        raise InputError(
            file.name,
            f"column {IMAGE} of type {raw}",
            "it holds the bytes of image files (binary)",
            "Write the files' content, or give a path with {item} in data.images.",
        )
    return footer
