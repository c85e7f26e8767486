"""Features as a ``.npy`` matrix whose row r belongs to the item with id r. Read by ranges; pickles are
refused."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa

from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import FeatureBatch, Piece, require_dimension, row_location, unreadable
from mmssl_dist.data.readers.id_types import IdSummary, Where
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location

_HEADER_BYTES = 1 << 14
PIECE_BYTES = 1 << 25
_MAX_WHOLE_BYTES = 1 << 30  # a matrix by columns is read at once
_VERSIONS = ((1, 0), (2, 0), (3, 0))
# What NumPy's parser of headers lets through for texts that are no header
_NO_HEADER = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    RecursionError,
)


@dataclass(frozen=True, kw_only=True)
class NumberedFeatures:
    """One matrix [rows, dimension]; ``raw`` is the dtype in the file, which begins at byte ``offset``."""

    files: tuple[RawFile, ...]
    rows: int
    dimension: int
    raw: np.dtype
    offset: int
    by_columns: bool
    item_type: pa.DataType = pa.int64()  # noqa: RUF009, immutable

    @property
    def item_ids(self) -> IdSummary:
        """See ``FeatureSource``."""
        return IdSummary(
            type=pa.int64(), source=f"{self.files[0].name}, whose rows are items 0, 1, ...", numeric=True
        )

    @property
    def dtype(self) -> np.dtype:
        """See ``FeatureSource``."""
        return np.dtype(np.float16 if self.raw.newbyteorder("=") == np.float16 else np.float32)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """See ``FeatureSource``."""
        step = self.rows if self.by_columns else max(1, PIECE_BYTES // (self.dimension * self.raw.itemsize))
        return tuple(
            Piece(0, first, min(first + step, self.rows), first) for first in range(0, self.rows, step)
        )

    @property
    def last_pieces(self) -> tuple[Piece, ...]:
        """See ``FeatureSource``."""
        return self.pieces[1:][-1:]

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        return chain.from_iterable(map(self.read, pieces))

    def read(self, piece: Piece) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        size = self.dimension * self.raw.itemsize
        location = self.files[0].location
        try:
            with location.filesystem.open_input_file(location.path) as stream:
                # A range, so that workers read pieces of one matrix side by side.
                content = stream.read_at((piece.last - piece.first) * size, self.offset + piece.first * size)
        except OSError as error:
            raise unreadable(
                self.files[0], error, "the file must be readable", "Check its permissions."
            ) from error
        if len(content) != (piece.last - piece.first) * size:
            raise InputError(
                self.files[0].name,
                "fewer bytes than when it was opened",
                "raw files must not change while they are read",
                "Run it again when the file is complete.",
            )
        raw = np.frombuffer(content, self.raw)
        shape = (piece.last - piece.first, self.dimension)
        raw = raw.reshape(shape[::-1]).T if self.by_columns else raw.reshape(shape)
        with np.errstate(over="ignore"):  # what becomes infinite is found below
            vectors = np.ascontiguousarray(raw, dtype=self.dtype)
        rows = np.arange(piece.first, piece.last, dtype=np.int64)
        require_finite(vectors, lambda index: row_location(self.files, 0, "row", int(rows[index])))
        items = pa.array(rows).cast(self.item_type)
        yield FeatureBatch(items, np.zeros(len(rows), np.int32), rows, vectors)

    def with_item_type(self, item_type: pa.DataType) -> NumberedFeatures:
        """See ``FeatureSource``."""
        return replace(self, item_type=item_type)


def open_numbered(file: RawFile) -> NumberedFeatures:
    """The matrix in a ``.npy`` file, from its header.

    Raises:
        InputError: no matrix of real numbers, or another number of bytes than the header says.
    """
    try:
        with file.location.filesystem.open_input_file(file.location.path) as stream:
            start = io.BytesIO(stream.read_at(min(_HEADER_BYTES, file.size), 0))
    except OSError as error:
        raise unreadable(file, error, "the file must be readable", "Check its permissions.") from error
    try:
        shape, by_columns, raw = _read_header(start)
    except _NO_HEADER as error:
        raise InputError(
            file.name,
            str(error).split("\n")[0] or "no header",
            "the file must be a NumPy array",
            "Write it with numpy.save.",
        ) from error
    # Before any value is read: an array of objects is a pickle, which can run any program.
    if raw.kind not in "fiu":
        raise InputError(
            file.name,
            f"values of type {raw}",
            "features are real numbers (pickled objects are refused)",
            "Save the array as float32.",
        )
    if len(shape) != 2 or not all(type(length) is int and length > 0 for length in shape):
        raise InputError(
            file.name, f"shape {shape}", "features are a matrix, one row per item", "Save it as a matrix."
        )
    expected = start.tell() + shape[0] * shape[1] * raw.itemsize
    # A copy that was cut short has a good header; its last items would be missing without a word.
    if file.size != expected:
        raise InputError(
            file.name,
            f"{file.size} bytes",
            f"shape {shape} of {raw} makes {expected} bytes",
            "Write the file again.",
        )
    require_dimension(file.name, shape[1])
    if by_columns and min(shape) > 1 and file.size > _MAX_WHOLE_BYTES:
        raise InputError(
            file.name,
            f"a matrix of {file.size} bytes stored column by column",
            f"one of more than {_MAX_WHOLE_BYTES} bytes must be stored row by row, to be read in pieces",
            "Save numpy.ascontiguousarray of it.",
        )
    return NumberedFeatures(
        files=(file,),
        rows=shape[0],
        dimension=shape[1],
        raw=raw,
        offset=start.tell(),
        by_columns=bool(by_columns and min(shape) > 1),
    )


def holds_objects(location: Location) -> bool:
    """Whether a ``.npy`` file is an array of pickled Python objects, such as a dictionary."""
    try:
        return bool(_read_header(io.BytesIO(location.read_start(_HEADER_BYTES)))[2].hasobject)
    except _NO_HEADER:
        return False


def _read_header(start: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(start)
    if version not in _VERSIONS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    # By the header alone: numpy.load would map or unpickle according to what it finds.
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, raw = read(start)
    return shape, by_columns, raw


def require_finite(vectors: np.ndarray, where: Where, remedy: str = "Replace the value.") -> None:
    """Raise an InputError that names the first row of ``vectors`` ([n, F]) with a NaN or infinite value."""
    finite = np.isfinite(vectors)
    if not finite.all():
        index, column = np.argwhere(~finite)[0]
        raise InputError(
            where(int(index)),
            f"{vectors[index, column]} in column {column}",
            f"features are finite numbers of type {vectors.dtype}",
            remedy,
        )
