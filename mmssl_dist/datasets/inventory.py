"""What a folder of raw files holds, from headers and first rows: tables, matrices and images.

Files that belong together, such as the parts below one folder, make one table. Nothing is decided here: see
``job_proposal``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.files import (
    IMAGE_SUFFIXES,
    PARQUET_SUFFIXES,
    RELEASE_FILES,
    TABLE_SUFFIXES,
    RawFile,
    expand,
)
from mmssl_dist.data.globs import is_visible
from mmssl_dist.data.ids import is_number, is_text, is_uuid, plain_values, storage_type, whole_or_null
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.delimited import header, text_blocks
from mmssl_dist.data.readers.id_types import text_ids
from mmssl_dist.data.readers.list_columns import list_type, value_type
from mmssl_dist.data.readers.moments import is_moment
from mmssl_dist.data.readers.numbered import open_numbered
from mmssl_dist.data.readers.open import FORMATS
from mmssl_dist.data.readers.parquet import Footer, batches, column_statistics, read_footers
from mmssl_dist.data.readers.text import bare, columns_with
from mmssl_dist.data.readers.times import time_summary
from mmssl_dist.datasets.written_vectors import are_vectors, columns_of_values
from mmssl_dist.errors import InputError, StorageFault
from mmssl_dist.storage import Location

INTER = ".inter"
_READ = (*TABLE_SUFFIXES, INTER)
_THREADS = 16
_ROWS = 10_000  # whose floats are looked at
NO_READER = "no reader for files of this name"
"""Why a file is unusable that has an unknown suffix."""

_NUMBERED_PART = r"[-_.][0-9]+"  # of a file's name: part-0001.csv

ValueType = Literal["integer", "text", "uuid", "moment", "number", "vector", "tags", "binary", "other"]
"""Vectors are lists of floats, or stand for the columns of their values; tags are lists of texts or whole
numbers."""


@dataclass(frozen=True)
class RawTable:
    """Files of one format; some may have more columns than others.

    Attributes:
        name: of the file, the folder or the glob, below the examined folder.
        files: the files, first one with the fewest columns.
        columns: what the values of each column are, of those that all files have; RecBole's ``:type`` is not
            part of a name.
    """

    name: str
    files: tuple[RawFile, ...]
    columns: Mapping[str, ValueType] = field(hash=False)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)

    @property
    def format(self) -> str:
        """The format of the files, as messages call it."""
        path = self.files[0].location.path
        return next((name for name, ends in FORMATS.items() if path.endswith(ends)), INTER)

    @property
    def is_parquet(self) -> bool:
        """Whether the files are Parquet."""
        return self.files[0].location.path.endswith(PARQUET_SUFFIXES)

    @property
    def is_inter(self) -> bool:
        """Whether the files are RecBole's."""
        return self.files[0].location.path.endswith(INTER)

    def columns_of(self, *types: ValueType) -> list[str]:
        """The columns with values of these types, in the file's order."""
        return [name for name, of in self.columns.items() if of in types]


@dataclass(frozen=True)
class Matrix:
    """A ``.npy`` file: one vector of ``dimension`` values for each of the items 0 to ``rows`` - 1."""

    name: str
    rows: int
    dimension: int


@dataclass(frozen=True)
class ImageFolder:
    """Image files of one folder: their names without suffix, and the path with ``{item}`` in its place."""

    pattern: str
    stems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The content of a folder.

    Attributes:
        release: train.json, val.json and test.json of MMSSL's release are there.
        tables, matrices, images: what readers can use.
        unusable: by file, why it cannot be used.
        unread: the tables among ``unusable``.
    """

    release: bool
    tables: tuple[RawTable, ...]
    matrices: tuple[Matrix, ...]
    images: tuple[ImageFolder, ...]
    unusable: Mapping[str, str] = field(hash=False)
    unread: tuple[str, ...]


def take_inventory(root: Location) -> Inventory:
    """What the files below the folder ``root`` are.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_folder():
        raise InputError("FOLDER", root.url, "the folder must exist", "Check the path or URL.")
    names = [name for name in map(root.relative, root.files()) if is_visible(PurePosixPath(name).parts)]
    unusable: dict[str, str] = {}
    tables = [
        table
        for group in _groups(name for name in names if name.endswith(_READ))
        for table in _tables(root, group, unusable)
    ]
    matrices = [_matrix(root, name, unusable) for name in names if name.endswith(".npy")]
    unread = tuple(name for name in unusable if name.endswith(_READ))
    # Only all three together: a train.json alone may be anybody's.
    release = set(RELEASE_FILES) <= set(names)
    for name in names:
        # Suffixes of tables are as readers know them, in small letters; those of images are in any.
        used = name.endswith((*_READ, ".npy")) or name.lower().endswith(IMAGE_SUFFIXES)
        if not used and not (release and name in RELEASE_FILES):
            unusable[name] = NO_READER
    return Inventory(
        release=release,
        tables=tuple(tables),
        matrices=tuple(matrix for matrix in matrices if matrix is not None),
        images=tuple(_images(names)),
        unusable=unusable,
        unread=unread,
    )


def _groups(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Files that may be parts of one table, with the name that stands for all of them."""
    groups: dict[str, list[str]] = {}
    for name in names:
        folders = list(PurePosixPath(name).parts[:-1])
        # Folders such as day=2024-01-01 are values of a column and not tables of their own.
        while folders and "=" in folders[-1]:
            folders.pop()
        # part-0001.csv and part-0002.csv become one glob.
        numbered = re.sub(_NUMBERED_PART, lambda part: f"{part[0][0]}*", name)
        groups.setdefault("/".join(folders) or numbered, []).append(name)
    return list(groups.items())


def _tables(root: Location, group: tuple[str, list[str]], unusable: dict[str, str]) -> list[RawTable]:
    """One table of all files, with the columns that all have, or where they differ otherwise a table of
    each."""
    whole, names = group
    files = [expand(root, name, "FOLDER", _READ)[0] for name in names]
    # Headers on S3 are a matter of waiting, one request a file.
    with ThreadPoolExecutor(_THREADS) as pool:
        columns_of_files = list(pool.map(_column_names, files))
    readable = [
        (name, file) for name, file, columns in zip(names, files, columns_of_files, strict=True) if columns
    ]
    for name, file, columns in zip(names, files, columns_of_files, strict=True):
        if not columns:
            # Files below the folder are known by their names in it; a long path would cut the reason off.
            unusable[name] = _reason(file).replace(f"{root.url}/", "")
    formats = {next(suffix for suffix in _READ if name.endswith(suffix)) for name in names}
    # One table only if later files have more columns at most; one that differs may be what somebody forgot to
    # move away.
    agree = len(readable) == len(files) and _nested(columns_of_files) and len(formats) == 1
    if agree and len(files) > 1 and _names_only(root, whole, files):
        # The file with the fewest columns first: what it has, all have.
        fewest = min(files, key=lambda file: len(columns_of_files[files.index(file)]))
        return _table(whole, (fewest, *(file for file in files if file is not fewest)), unusable)
    return [table for name, file in readable for table in _table(name, (file,), unusable)]


def _nested(columns_of_files: Sequence[Sequence[str]]) -> bool:
    """Whether of any two files one has all columns of the other."""
    by_size = sorted(map(frozenset, columns_of_files), key=len)
    return all(fewer <= more for fewer, more in itertools.pairwise(by_size))


def _names_only(root: Location, whole: str, files: Sequence[RawFile]) -> bool:
    """Whether a job that gives ``whole``, a folder or glob, reads ``files`` and no others."""
    try:
        named = expand(root, whole, "FOLDER", _READ)
    except InputError as error:
        _raise_faults(error)
        return False
    return {file.location.url for file in named} == {file.location.url for file in files}


def _table(name: str, files: tuple[RawFile, ...], unusable: dict[str, str]) -> list[RawTable]:
    try:
        columns = _value_types(files[0])
    except InputError as error:
        _raise_faults(error)
        unusable[name] = str(error)
        return []
    # A column of the file takes precedence over a folder's key of the same name.
    keys = {key: _text_type([value]) for key, value in files[0].keys.items() if key not in columns}
    return [RawTable(name, files, {**columns, **keys})]


def _column_names(file: RawFile) -> tuple[str, ...]:
    """The names of the columns; none of a file that cannot be read."""
    try:
        if file.location.path.endswith(PARQUET_SUFFIXES):
            return tuple(read_footers([file])[0].schema.names)
        written = header(file)
        return tuple(map(bare, written) if file.location.path.endswith(INTER) else written)
    except InputError as error:
        _raise_faults(error)
        return ()


def _reason(file: RawFile) -> str:
    try:
        _value_types(file)
    except InputError as error:
        _raise_faults(error)
        return str(error)
    return "it has no columns"


def _value_types(file: RawFile) -> dict[str, ValueType]:
    """What the values of each column are: by the schema of Parquet, by the first rows of text."""
    if file.location.path.endswith(PARQUET_SUFFIXES):
        (footer,) = read_footers([file])
        types = {column.name: _schema_type(column.type) for column in footer.schema}
        return _with_vectors(types | dict.fromkeys(_whole_floats(file, footer), "integer"))
    written = header(file)
    # The first block alone, since this only proposes; ``prepare`` looks at every row.
    with_values = columns_with("values", file, written)
    first = next(text_blocks(file, with_values, Columns().null_values), {})
    inter = file.location.path.endswith(INTER)
    types = {bare(name) if inter else name: _block_type(first.get(name), file.name) for name in written}
    types |= _list_types(file, written, with_values)
    return types if inter else _with_vectors(types)


def _list_types(file: RawFile, written: Sequence[str], with_values: Sequence[str]) -> dict[str, ValueType]:
    """What lists in JSON lines are: vectors or tags."""
    lists = [name for name in columns_with("lists", file, written) if name not in with_values]
    if not lists:
        return {}
    first = next(text_blocks(file, lists, Columns().null_values, lists=lists), {})
    return {name: "vector" if name in first and are_vectors(first[name]) else "tags" for name in lists}


def _with_vectors(types: Mapping[str, ValueType]) -> dict[str, ValueType]:
    """``types`` with one pattern in place of the columns that have a vector's values."""
    numbers = [name for name, of in types.items() if of in ("number", "integer")]
    for pattern, columns in columns_of_values(numbers).items():
        if any(types[name] == "number" for name in columns):
            types = {name: of for name, of in types.items() if name not in columns} | {pattern: "vector"}
    return dict(types)


def _whole_floats(file: RawFile, footer: Footer) -> list[str]:
    """Columns of floats that have nulls and otherwise integers, in the first rows: pandas writes integers so
    that are beside a null. Without one they are ratings or prices."""
    schema = footer.schema
    floats = [
        column.name
        for column in schema
        if pa.types.is_floating(storage_type(column.type)) and schema.names.count(column.name) == 1
    ]
    with_nulls = [name for name in floats if _may_have_nulls(file, footer, name)]
    group = next((number for number, rows in enumerate(footer.group_rows) if rows), None)
    if not with_nulls or group is None:
        return []
    first = next(batches(file, Piece(0, group, group + 1), with_nulls, _ROWS))
    values = {name: plain_values(pa.chunked_array([first[name]])).drop_null() for name in with_nulls}
    return [name for name, some in values.items() if len(some) and whole_or_null(some).null_count == 0]


def _may_have_nulls(file: RawFile, footer: Footer, name: str) -> bool:
    statistics = (known for _, known in column_statistics(file, footer, name))
    return any(known is None or not known.has_null_count or known.null_count for known in statistics)


def _schema_type(raw: pa.DataType) -> ValueType:
    lists, stored = list_type(raw), storage_type(raw)
    if lists is not None:
        values = value_type(lists)
        if values is not None and pa.types.is_floating(values):
            return "vector"
        return "tags" if values is not None and (is_text(values) or pa.types.is_integer(values)) else "other"
    if pa.types.is_integer(stored) or (pa.types.is_decimal(stored) and stored.scale == 0):
        return "integer"
    if is_uuid(stored):
        return "uuid"
    if is_number(stored):
        return "number"
    if is_text(stored):
        return "text"
    if is_moment(stored):
        return "moment"
    binary = pa.types.is_binary(stored) or pa.types.is_large_binary(stored)
    return "binary" if binary else "other"


def _block_type(texts: pa.Array | None, source: str) -> ValueType:
    if texts is None or texts.null_count == len(texts):
        return "other"
    ids = text_ids(texts, source, lambda index: source)
    if ids.numeric:
        return "integer"
    if ids.fraction and not ids.text:
        return "number"
    times = time_summary(texts, lambda index: source)
    if times.moment and not (times.number or times.other):
        return "moment"
    return "vector" if are_vectors(texts) else "text"


def _text_type(values: list[str | None]) -> ValueType:
    return _block_type(pa.array(values, pa.string()), "a folder's name")


def _matrix(root: Location, name: str, unusable: dict[str, str]) -> Matrix | None:
    try:
        matrix = open_numbered(expand(root, name, "FOLDER", (".npy",))[0])
    except InputError as error:
        _raise_faults(error)
        unusable[name] = str(error)
        return None
    return Matrix(name, matrix.rows, matrix.dimension)


def _images(names: Iterable[str]) -> list[ImageFolder]:
    stems: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            stems.setdefault(str(path.with_name(f"{{item}}{path.suffix}")), []).append(path.stem)
    return [ImageFolder(pattern, tuple(of_pattern)) for pattern, of_pattern in stems.items()]


def _raise_faults(error: InputError) -> None:
    """Raise what is no fault of the file: the storage did not answer."""
    if isinstance(error, StorageFault):
        raise error
