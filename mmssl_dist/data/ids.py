"""External ids of any scalar type: one Arrow type per kind, a hash that is the same in every process,
ranks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.kernels.splitmix import mix

EXACT_FLOAT = float(2**53)
"""Of larger floats, neighbouring integers have the same."""
WHOLE = r"^(0|-?[1-9][0-9]*)\.0+$"
"""Text of an integer as pandas writes it beside missing values."""
UUID_BYTES = 16
MOST_BYTES = 2**31 - 1
"""Of texts in an array with 32-bit offsets."""
_UUID_DASHES = (8, 13, 18, 23)
_LONGEST_TEXT = 80
_KEPT = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
)


def storage_type(raw: pa.DataType) -> pa.DataType:
    """The type of the values of a column of type ``raw``: that below dictionaries and extension types.

    Which extension types there are depends on what a process has imported; their storage does not.
    """
    # A loop, since a dictionary may hold an extension type, and the other way round.
    while isinstance(raw, pa.DictionaryType | pa.BaseExtensionType):
        raw = raw.value_type if isinstance(raw, pa.DictionaryType) else raw.storage_type
    return raw


def plain_values(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of its ``storage_type``."""
    array = one_array(column)
    while isinstance(array, pa.DictionaryArray | pa.ExtensionArray):
        array = array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array.storage
    return array


def canonical_type(raw: pa.DataType) -> pa.DataType | None:
    """The type of ids from a column of type ``raw``, or None if such values cannot be ids.

    Numbers are int64: floats and decimals are ids where they are whole, which their values decide. Texts are
    string and bytes binary, whatever the width of their offsets. The type null, of a column without values,
    agrees with every other.
    """
    raw = storage_type(raw)
    if is_number(raw):
        return pa.int64()
    # string and not large_string: ids of one type have one hash and one file format, whatever wrote them.
    if is_text(raw):
        return pa.string()
    if pa.types.is_large_binary(raw):
        return pa.binary()
    kept = pa.types.is_binary(raw) or pa.types.is_fixed_size_binary(raw) or any(test(raw) for test in _KEPT)
    return raw if kept else None


def is_number(raw: pa.DataType) -> bool:
    """Whether ``raw`` is a type of integers, floats or decimals."""
    return bool(pa.types.is_integer(raw) or pa.types.is_floating(raw) or pa.types.is_decimal(raw))


def is_text(raw: pa.DataType) -> bool:
    """Whether ``raw`` is one of Arrow's types of UTF-8 texts."""
    return bool(pa.types.is_string(raw) or pa.types.is_large_string(raw) or pa.types.is_string_view(raw))


def scalar_text(value: pa.Scalar) -> str:
    """A value for a message; Python has no dates as late, or times as fine, as Arrow."""
    try:
        shown = uuid.UUID(bytes=value.as_py()) if value.is_valid and is_uuid(value.type) else value.as_py()
        text = repr(shown) if value.is_valid else "nothing"
    except (ValueError, OverflowError, pa.ArrowException):
        text = f"a {value.type} out of range"
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def id_values(ids: pa.Array) -> list[Any]:
    """Ids as Python values: UUIDs as such, whose text is their usual one, and not as bytes."""
    values: list[Any] = ids.to_pylist()
    if not is_uuid(ids.type):
        return values
    return [None if value is None else uuid.UUID(bytes=value) for value in values]


def id_texts(ids: pa.ChunkedArray, like: object = None) -> pa.Array:
    """Ids as the texts that Python makes of them, whatever a file keeps them as; the number 7.0 is 7.

    ``like``: one of the ids that they are to be compared with. Where that is an integer, the text "7.0" is 7;
    where it is a text or a UUID, UUIDs are their usual texts.
    """
    values = plain_values(ids)
    if is_uuid(values.type) and isinstance(like, str | uuid.UUID):
        return uuid_texts(values)
    # Arrow casts bytes to text only where they are UTF-8; Python's form shows any.
    if _is_binary(values.type):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    texts = values.cast(pa.string())
    if pa.types.is_floating(values.type):  # Arrow writes large ones with an exponent
        return pc.coalesce(whole_or_null(values).cast(pa.string()), texts)
    if isinstance(like, int) or is_number(values.type):
        return pc.replace_substring_regex(texts, pattern=WHOLE, replacement=r"\1")
    return texts


def whole_or_null(floats: pa.Array) -> pa.Array:
    """[n] int64: whole numbers as integers, null for others and for those too large to be exact."""
    values = floats.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), EXACT_FLOAT))
    return pc.if_else(whole, values, pa.scalar(None, pa.float64())).cast(pa.int64())


def is_uuid(raw: pa.DataType) -> bool:
    """Whether ``raw`` is the type that UUIDs are kept as."""
    return bool(pa.types.is_fixed_size_binary(raw) and raw.byte_width == UUID_BYTES)


def uuid_texts(ids: pa.Array) -> pa.Array:
    """UUIDs ([n] of 16 bytes; nulls stay) as their usual texts: 123e4567-e89b-12d3-a456-426614174000."""
    start, count = ids.offset * UUID_BYTES, len(ids)
    if ids.null_count == count:  # there may be no buffer
        return pa.nulls(count, pa.string())
    stored = np.frombuffer(ids.buffers()[1], np.uint8)[start : start + count * UUID_BYTES]
    digits = np.array([b"%02x" % byte for byte in range(256)], "S2")[stored].view(np.uint8).reshape(count, 32)
    letters = np.full((count, 36), ord("-"), np.uint8)
    letters[:, [place for place in range(36) if place not in _UUID_DASHES]] = digits
    offsets = np.arange(count + 1, dtype=np.int32) * 36
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
    texts = pa.Array.from_buffers(pa.string(), count, buffers)
    return pc.if_else(ids.is_valid(), texts, pa.scalar(None, pa.string()))


def hashes(ids: pa.Array) -> np.ndarray:
    """[n] uint64: a hash of each id that depends on its value alone, never on the process; null has 0."""
    if pa.types.is_int64(ids.type) and ids.null_count == 0:
        return mix(ids.to_numpy().view(np.uint64))
    # Each distinct id is hashed once; in interactions an id comes up hundreds of times.
    encoded = ids.dictionary_encode()
    values = encoded.dictionary
    if pa.types.is_integer(values.type):
        hashed = mix(values.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64))
    else:
        if not pa.types.is_string(values.type):
            values = values.cast(pa.string()) if not _is_binary(values.type) else values
        from pandas.util import hash_array  # takes a while to import, which only ids of text have to wait for

        hashed = hash_array(np.asarray(values.to_numpy(zero_copy_only=False), dtype=object), categorize=False)
    # One more entry at the end, which null indices are pointed at below.
    hashed = np.append(np.asarray(hashed, np.uint64), np.uint64(0))
    indices: np.ndarray = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    return np.asarray(hashed[indices], np.uint64)


def buckets_of(ids: pa.Array, buckets: int) -> pa.Array:
    """[n] int32: the bucket of each id."""
    return pa.array((mix(hashes(ids)) % np.uint64(buckets)).astype(np.int32))


def ranked(ids: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct ids in ascending order, and each id's position among them, [n] int64."""
    # "encode" gives nulls an entry of their own; a null index could not be ranked.
    encoded = ids.dictionary_encode("encode")
    # Sorting the distinct values alone: an id of the interactions comes up hundreds of times.
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return encoded.dictionary.take(order), rank[encoded.indices.to_numpy()]


def positions(ids: pa.Array, among: pa.Array) -> np.ndarray:
    """[n] int64: position of each id in ``among``, -1 where it is not there."""
    indices = pc.fill_null(pc.index_in(ids, value_set=among), -1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; texts and bytes beyond 2 GiB have 64-bit offsets."""
    if column.nbytes > MOST_BYTES and with_large_offsets(column.type) != column.type:
        return concatenated(column.chunks)
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def with_large_offsets(narrow: pa.DataType) -> pa.DataType:
    """``narrow``, or for string and binary the type of the same values with 64-bit offsets."""
    if isinstance(narrow, pa.DictionaryType):
        return pa.dictionary(narrow.index_type, with_large_offsets(narrow.value_type), narrow.ordered)
    if pa.types.is_string(narrow):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(narrow) else narrow


def concatenated(chunks: Sequence[pa.Array]) -> pa.Array:
    """One or more arrays of one type as one, without dictionaries; texts and bytes with 64-bit offsets, so of
    any size."""
    # Chunk by chunk: joined first, as 32-bit offsets, they would overflow.
    wide = [chunk.cast(with_large_offsets(chunk.type)) for chunk in chunks]
    plain = [chunk.dictionary_decode() if isinstance(chunk, pa.DictionaryArray) else chunk for chunk in wide]
    return pa.concat_arrays(plain)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_)
    )
