"""Which raw files a job reads: names under data.path become existing files, or one message says what is
missing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from mmssl_dist.config.data_sections import Data, Modality
from mmssl_dist.config.job import Job
from mmssl_dist.data.globs import fixed_part, is_visible, matches_glob
from mmssl_dist.data.lake_tables import table_files
from mmssl_dist.data.table_log import TableColumn, TableFile
from mmssl_dist.errors import InputError, Problems, StorageError
from mmssl_dist.storage import Location, open_location
from mmssl_dist.storage.remote import is_web

RELEASE_FILES = ("train.json", "val.json", "test.json")
PARQUET_SUFFIXES = (".parquet", ".pq")
CSV_SUFFIXES, TSV_SUFFIXES = ((f".{name}", f".{name}.gz", f".{name}.zst") for name in ("csv", "tsv"))
JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")
TEXT_TABLE_SUFFIXES = (*CSV_SUFFIXES, *TSV_SUFFIXES, *JSON_SUFFIXES)
TABLE_SUFFIXES = (*PARQUET_SUFFIXES, *TEXT_TABLE_SUFFIXES)
ITEM_PLACE = "{item}"  # in a path of images: where the item's id stands
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp")


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """One input file.

    Attributes:
        location: where it is.
        size: its bytes.
        modified: when it was last changed, in nanoseconds since 1970; None if unknown.
        keys: values of the columns that folders above it name as in Hive, such as day=2024-01-01; None is
            null.
        digest: SHA-256 of the content, where a manifest says it.
        columns: those of the table that it belongs to, where it may have them under other names.
    """

    location: Location
    size: int
    modified: int | None
    # Out of the hash, as mappings have none; files of one location have the same keys anyway.
    keys: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    digest: str | None = None
    columns: tuple[TableColumn, ...] | None = None

    @property
    def name(self) -> str:
        """Its URL, as messages show it."""
        return self.location.url


@dataclass(frozen=True, eq=False)
class PictureFolder:
    """Pictures of items, as they were listed once.

    Attributes:
        root: data.path.
        folder: the deepest folder that has them all.
        listing: name (below ``root``, sorted), size (bytes) and modified (ns since 1970, or null) of each.
    """

    root: Location
    folder: Location
    listing: pa.Table


@dataclass(frozen=True)
class ContentFiles:
    """Raw content of one modality: tables, or pictures, or pictures that tables name."""

    tables: tuple[RawFile, ...]
    pictures: PictureFolder | None

    def stamp(self) -> list[object]:
        """What changes when a file does: names, sizes and times, as JSON values."""
        stamp: list[object] = [(file.name, file.size, file.modified) for file in self.tables]
        if self.pictures is not None:
            digest = hashlib.sha256()
            for column in self.pictures.listing.columns:
                digest.update("\n".join(map(str, column.to_pylist())).encode(errors="surrogateescape"))
            stamp.append(digest.hexdigest())
        return stamp


@dataclass(frozen=True, kw_only=True)
class RawFiles:
    """Every file a job reads: interactions in the order of their paths, features by modality, titles and
    images; and by modality the raw content that is yet to be embedded."""

    interactions: tuple[RawFile, ...]
    features: dict[str, tuple[RawFile, ...]]
    titles: tuple[RawFile, ...]
    images: tuple[RawFile, ...]
    content: dict[str, ContentFiles] = field(default_factory=dict)

    def all(self) -> tuple[RawFile, ...]:
        """Every file but pictures, in the order of the attributes."""
        tables = (file for content in self.content.values() for file in content.tables)
        return (*self.of_dataset(), *self.titles, *self.images, *tables)

    def of_dataset(self) -> tuple[RawFile, ...]:
        """Those that the dataset is made from."""
        return (*self.interactions, *(file for files in self.features.values() for file in files))


def find_files(job: Job) -> RawFiles:
    """The raw files of ``job``.

    Raises:
        InputError: data.path or something under it is not there; names everything that is missing.
    """
    root = open_location(job.data.path, job.storage)
    if not root.is_folder():
        raise InputError("data.path", job.data.path, "the folder must exist", "Check the path or URL.")
    problems = Problems()
    interactions = problems.attempt(lambda: _interaction_files(root, job.data))
    features = {
        name: problems.attempt(partial(_feature_files, root, name, modality)) or ()
        for name, modality in job.data.modalities.items()
        if not modality.has_content
    }
    content = {
        name: problems.attempt(partial(_content_files, root, name, modality)) or ContentFiles((), None)
        for name, modality in job.data.modalities.items()
        if modality.has_content
    }
    titles = problems.attempt(lambda: find_titles(job))
    images = problems.attempt(lambda: find_images(job))
    # After all four: a user with two missing files learns of both at once.
    problems.raise_all("data")
    return RawFiles(
        interactions=interactions or (),
        features=features,
        titles=titles or (),
        images=images or (),
        content=content,
    )


def _content_files(root: Location, name: str, modality: Modality) -> ContentFiles:
    key = f"data.modalities.{name}"
    tables = () if modality.table is None else expand(root, modality.table, f"{key}.table", TABLE_SUFFIXES)
    if modality.files is None:
        return ContentFiles(tables, None)
    return ContentFiles(tables, _pictures(root, modality.files, f"{key}.files", bool(tables)))


def _pictures(root: Location, pattern: str, key: str, any_name: bool) -> PictureFolder:
    """The pictures that ``pattern`` may mean; with ``any_name``, columns of a table complete the names."""
    if not pattern.endswith("}") and not pattern.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(
            key,
            pattern,
            f"pictures end in {', '.join(IMAGE_SUFFIXES)}",
            "Name picture files.",
        )
    _location_below(root, pattern, key)
    folder = root
    for part in PurePosixPath(pattern).parts[:-1]:
        if "{" in part:
            break
        folder = folder / part
    regex = None if any_name else path_regex(pattern)
    prefix = "/".join(_parts_below(root, folder.path))
    rows = []
    for info in folder.files():
        below = folder.relative(info)
        name = f"{prefix}/{below}" if prefix else below
        if name.lower().endswith(IMAGE_SUFFIXES) and (regex is None or regex.fullmatch(name)):
            rows.append((name, int(info.size), info.mtime_ns))
    if not rows:
        raise InputError(
            folder.url,
            "no such picture",
            f"{key} ({pattern}) names pictures under data.path; they end in {', '.join(IMAGE_SUFFIXES)}",
            f"Check data.path and {key}.",
        )
    names, sizes, times = zip(*sorted(rows), strict=True)
    types = {"name": pa.string(), "size": pa.int64(), "modified": pa.int64()}
    columns = zip(types.values(), (names, sizes, times), strict=True)
    arrays = [pa.array(values, data_type) for data_type, values in columns]
    return PictureFolder(root, folder, pa.table(arrays, names=list(types)))


def path_regex(pattern: str) -> re.Pattern[str]:
    """A pattern of paths whose group 1 is the item's id."""
    before, _, after = pattern.partition(ITEM_PLACE)
    return re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")


def _feature_files(root: Location, name: str, modality: Modality) -> tuple[RawFile, ...]:
    assert modality.file is not None  # a rule of the job, where there is no raw content
    suffixes = (".npy",) if modality.file.endswith(".npy") else TABLE_SUFFIXES
    return expand(root, modality.file, f"data.modalities.{name}.file", suffixes)


def find_titles(job: Job) -> tuple[RawFile, ...]:
    """The files with titles of items, if the job names some; raises as ``find_files``."""
    if job.data.titles is None:
        return ()
    return expand(open_location(job.data.path, job.storage), job.data.titles, "data.titles", TABLE_SUFFIXES)


def find_images(job: Job) -> tuple[RawFile, ...]:
    """The Parquet files with images of items, if the job names some; none where it gives a path per item.

    Raises:
        InputError: as ``find_files``, or for a path per item that names no image file below data.path.
    """
    pattern, key = job.data.images, "data.images"
    if pattern is None:
        return ()
    root = open_location(job.data.path, job.storage)
    if ITEM_PLACE not in pattern:
        return expand(root, pattern, key, PARQUET_SUFFIXES)
    if not pattern.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(
            key,
            pattern,
            f"a path with {ITEM_PLACE} ends in {', '.join(IMAGE_SUFFIXES)}",
            "Name image files.",
        )
    _location_below(root, pattern, key)
    return ()


def expand(root: Location, pattern: str, key: str, suffixes: tuple[str, ...]) -> tuple[RawFile, ...]:
    """The files a name, a folder's name or a glob stands for, by path: ``*``, ``?``, ``[]`` within a path
    segment; a segment ``**`` is any number of folders, also none.

    Raises:
        InputError: there is none with one of ``suffixes``; names the YAML ``key``.
    """
    target = _location_below(root, pattern, key)
    info = target.info()  # a name that exists is meant, whatever letters it has
    if info.type == pafs.FileType.File:
        # Readers are chosen by the ending, so a file without a known one could only be guessed at.
        if not pattern.endswith(suffixes):
            raise InputError(key, pattern, f"files end in {', '.join(suffixes)}", "Rename or convert it.")
        return (_raw_file(root, target, info),)
    if info.type == pafs.FileType.Directory and (table := table_files(target)) is not None:
        return _of_table(root, target, table, key)
    if is_web(target.scheme):
        raise InputError(
            target.url,
            "no such file",
            f"{key} names one file: a web server cannot list folders; wildcards are not supported",
            f"Check data.path and {key}.",
        )
    # A folder's whole content is meant; of a glob only what matches segment by segment
    if info.type == pafs.FileType.Directory:
        base, segments = target, None
    else:
        base, segments = fixed_part(root, pattern), PurePosixPath(pattern).parts

    def is_meant(name: str) -> bool:
        below = PurePosixPath(name).parts
        parts = below if segments is None else (*_parts_below(root, base.path), *below)
        return name.endswith(suffixes) and (
            is_visible(parts) if segments is None else matches_glob(parts, segments)
        )

    matching = [
        _raw_file(root, base / name, file) for file in base.files() if is_meant(name := base.relative(file))
    ]
    # A listing leaves broken links out, and a dataset would be made without their rows.
    for name in base.broken_links():
        if is_meant(name):
            raise InputError(
                f"{base.url}/{name}",
                "a broken symbolic link",
                f"every file that {key} names must exist",
                "Restore what it leads to, or remove the link.",
            )
    if not matching:
        raise InputError(
            target.url,
            "no such file",
            f"{key} names a file, a folder or a glob under data.path; files end in {', '.join(suffixes)}",
            f"Check data.path and {key}.",
        )
    return tuple(matching)


def _of_table(root: Location, target: Location, table: list[TableFile], key: str) -> tuple[RawFile, ...]:
    """The files of a Delta Lake or Iceberg table, which have values of columns in their folders' names."""
    if not table:
        raise InputError(target.url, "a table without files", f"{key} needs data files", "Check the table.")
    for file in table:
        if not file.location.path.endswith(PARQUET_SUFFIXES):  # by which readers are chosen
            raise InputError(
                target.url,
                f"a data file {PurePosixPath(file.location.path).name}",
                f"data files of a table are Parquet, with names that end in {', '.join(PARQUET_SUFFIXES)}",
                "Rewrite the table's data files.",
            )
    return tuple(
        RawFile(
            location=file.location,
            size=file.size,
            modified=file.modified,
            keys=_keys(root, file.location) if file.keys is None else file.keys,
            columns=file.columns,
        )
        for file in table
    )


def _raw_file(root: Location, location: Location, info: pafs.FileInfo) -> RawFile:
    return RawFile(location=location, size=int(info.size), modified=info.mtime_ns, keys=_keys(root, location))


def _keys(root: Location, location: Location) -> dict[str, str | None]:
    """The values of the keys in names of folders; such names are percent-encoded."""
    keys = {}
    for folder in _parts_below(root, location.path)[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name:
            # Spark and Hive write a missing value of a key as this name.
            keys[unquote(name)] = None if value in ("", _HIVE_NULL) else unquote(value)
    return keys


def _parts_below(root: Location, path: str) -> tuple[str, ...]:
    return PurePosixPath(path.removeprefix(root.path).lstrip("/")).parts


def _location_below(root: Location, pattern: str, key: str) -> Location:
    try:
        return root / pattern
    except StorageError as error:
        raise InputError(
            key, pattern, "paths must stay below data.path", "Use a relative path without .."
        ) from error


def _interaction_files(root: Location, data: Data) -> tuple[RawFile, ...]:
    key = "data.interactions"
    if data.layout == "mmssl":
        if data.interactions is not None:
            raise InputError(
                key, data.interactions, f"the mmssl layout reads {', '.join(RELEASE_FILES)}", "Remove it."
            )
        # In this order, since the position of a file is the code of its split.
        return tuple(expand(root, name, "data.layout", (".json",))[0] for name in RELEASE_FILES)
    if data.layout == "table":
        return expand(root, data.interactions or "interactions.parquet", key, TABLE_SUFFIXES)
    if data.interactions is not None:
        return expand(root, data.interactions, key, (".inter",))
    files = expand(root, "*.inter", key, (".inter",))
    if len(files) > 1:
        names = ", ".join(PurePosixPath(file.location.path).name for file in files)
        raise InputError(
            key, names, "data.path holds several .inter files", f"Name one, or a glob, in {key}."
        )
    return files
