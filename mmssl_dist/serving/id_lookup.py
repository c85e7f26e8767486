"""External ids and places, back and forth, for ids of any type that an export may hold."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import (
    EXACT_FLOAT,
    UUID_BYTES,
    concatenated,
    id_values,
    is_uuid,
    storage_type,
    uuid_texts,
    whole_or_null,
)
from mmssl_dist.data.readers.id_types import integers_or_null, parse_integers
from mmssl_dist.errors import UnknownIdError

_BLOCK = 1 << 20  # ids of a file that are converted together


class Ids:
    """The external ids of all users, or of all items, by place.

    Args:
        ids: [n] ids, without nulls or duplicates.
        entity: "user" or "item", for messages.
    """

    def __init__(self, ids: pa.Array, entity: str) -> None:
        self.array: pa.Array = ids.dictionary_decode() if isinstance(ids, pa.DictionaryArray) else ids
        self.entity = entity

    def __len__(self) -> int:
        return len(self.array)

    def __contains__(self, value: object) -> bool:
        return bool(self.find([value])[0] >= 0)

    def position(self, value: object) -> int:
        """The position of an id, given as a value of the ids' type or as text.

        Raises:
            UnknownIdError: there is no such id.
        """
        return int(self.positions([value])[0])

    def positions(self, values: Iterable[object] | pa.Array) -> np.ndarray:
        """int64 positions of several ids; raises as ``position`` does."""
        asked = id_values(values) if isinstance(values, pa.Array) else list(values)
        positions = self.find(values if isinstance(values, pa.Array) else asked)
        unknown = np.flatnonzero(positions < 0)
        if len(unknown):
            example = f", such as {id_values(self.array[:1])[0]!s}" if len(self) else ""
            rule = f"the run knows {len(self):,} {self.entity}s, with ids of type {self.type_name}"
            remedy = f"Give one from the data{example}."
            raise UnknownIdError(f"{self.entity} id", repr(asked[unknown[0]]), rule, remedy)
        return positions

    def find(self, values: Iterable[object] | pa.Array) -> np.ndarray:
        """int64 positions of several ids, -1 for those that are not there. An array is a column of a file,
        whose values are ids as ``as_ids`` makes them."""
        asked = values if isinstance(values, pa.Array) else list(values)
        if not len(asked) or not len(self):
            return np.full(len(asked), -1, np.int64)
        if not isinstance(asked, pa.Array):
            return self._search(self._as_ids(asked))
        blocks = (asked.slice(start, _BLOCK) for start in range(0, len(asked), _BLOCK))
        return np.concatenate([self._search(self._block_as_ids(block).cast(self._type)) for block in blocks])

    def _search(self, values: pa.Array) -> np.ndarray:
        """int64 positions of ids of this type, -1 for those that are not there."""
        # Bisection of all of them at once: a dictionary would take some hundred bytes an id, and a loop would
        # keep this process from its other requests
        ids = _comparable(values)
        # An id above all others has a rank beyond the last; the comparison below turns it away.
        ranks = pc.min_element_wise(
            pc.search_sorted(self._sorted, ids), pa.scalar(len(self) - 1, pa.uint64())
        )
        equal = pc.fill_null(pc.equal(self._sorted.take(ranks), ids), False)
        return np.where(equal.to_numpy(zero_copy_only=False), self._order[ranks.to_numpy()], -1)

    @property
    def plain(self) -> pa.Array:
        """The ids below an extension type."""
        return self.array.storage if isinstance(self.array, pa.ExtensionArray) else self.array

    @property
    def type_name(self) -> str:
        """The ids' type in words: the width of offsets is no part of it."""
        return "UUID" if is_uuid(self._type) else str(self.array.type).removeprefix("large_")

    def take(self, positions: np.ndarray) -> pa.Array:
        """The ids at ``positions``, as an array of at most 2 GiB: texts and bytes with 32-bit offsets."""
        return narrow(self.array.take(pa.array(positions, pa.int64())))

    def as_ids(self, values: pa.Array) -> pa.Array:
        """Values of another file as ids of this type, below extension types; null for what cannot be one."""
        # Block by block: a block of texts has 32-bit offsets, and Python's values take ten times the room.
        blocks = [self._block_as_ids(values.slice(start, _BLOCK)) for start in range(0, len(values), _BLOCK)]
        return concatenated(blocks or [pa.array([], self.plain.type)])

    def _block_as_ids(self, values: pa.Array) -> pa.Array:
        plain = self.plain.type
        stored = values.storage if isinstance(values, pa.ExtensionArray) else values
        if stored.type == plain:
            return stored
        # As prepare reads ids of a file: UUIDs and whole numbers become texts, texts become numbers.
        if _is_text(plain):
            if is_uuid(stored.type):
                stored = uuid_texts(stored)
            elif pa.types.is_floating(stored.type):
                stored = whole_or_null(stored)
            if pa.types.is_integer(stored.type) or _is_text(stored.type):
                return stored.cast(plain)
        if _is_text(stored.type) and pa.types.is_int64(plain):
            return integers_or_null(stored.cast(pa.string()))
        return self._as_ids(values.to_pylist()).cast(plain)

    def at(self, positions: np.ndarray) -> list[Any]:
        """The ids at ``positions``, as Python values."""
        return id_values(self.take(positions))

    @cached_property
    def _order(self) -> np.ndarray:
        order: np.ndarray = pc.sort_indices(_comparable(self.array)).to_numpy().astype(np.int64)
        return order

    @cached_property
    def _sorted(self) -> pa.Array:
        return _comparable(self.array).take(pa.array(self._order))

    @cached_property
    def _type(self) -> pa.DataType:
        return storage_type(self.array.type)

    def _as_ids(self, values: list[object]) -> pa.Array:
        """[n], ``values`` as ids; null for what cannot be one."""
        if len(values) == 1:  # of most requests; faster than what follows
            return pa.array([self._value(values[0])], self._type)
        by_type: dict[type, list[int]] = {}
        for index, value in enumerate(values):
            by_type.setdefault(type(value), []).append(index)
        ids = [self._of_type(type_, [values[i] for i in some]) for type_, some in by_type.items()]
        order = np.argsort(np.concatenate(list(by_type.values())))
        return pa.concat_arrays(ids).take(pa.array(order))

    def _of_type(self, type_: type, values: list[Any]) -> pa.Array:
        """``_as_ids`` of values of one Python type: together where Arrow converts them, else one by one."""
        ids_are_integers = pa.types.is_int64(self._type)
        try:
            if issubclass(type_, str) and _is_text(self._type):
                return pa.array(values, self._type)
            if issubclass(type_, str) and ids_are_integers:
                return integers_or_null(pa.array(values, pa.string()))
            if issubclass(type_, float) and ids_are_integers:
                return whole_or_null(pa.array(values, pa.float64()))
            if issubclass(type_, int | np.integer) and type_ is not bool and ids_are_integers:
                return pa.array(values, self._type)
        except (pa.ArrowException, ValueError, OverflowError):
            pass  # one of them cannot be an id
        return pa.array([self._value(value) for value in values], self._type)

    def _value(self, value: Any) -> Any:
        """``value`` as a value of the ids' type; None for what cannot be one."""
        type_ = self._type
        if isinstance(value, pa.Scalar):
            value = value.as_py()
        elif isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        try:
            if _is_text(type_):
                value = _text_of(value)
            if isinstance(value, str) and pa.types.is_int64(type_):
                number = parse_integers(pa.array([value]))  # as text in raw files: "007" is not 7
                return None if number is None else number[0].as_py()
            if isinstance(value, str | uuid.UUID) and is_uuid(type_):
                text = str(value)
                return text.encode() if len(text.encode()) == UUID_BYTES else uuid.UUID(text).bytes
            if isinstance(value, str) and not _is_text(type_):
                return pa.scalar(value).cast(type_).as_py()
            if isinstance(value, float) and pa.types.is_int64(type_) and abs(value) > EXACT_FLOAT:
                return None  # stands for several integers
            if isinstance(value, bool) != pa.types.is_boolean(type_):
                return None  # or True would be the id 1
            converted = pa.scalar(value, type_).as_py()
            return converted if converted == value else None  # Arrow makes 1 of 1.5
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return None


def _text_of(value: Any) -> Any:
    """The text of a UUID, also of one in its 16 bytes, as prepare makes it; other values as they are."""
    if isinstance(value, bytes) and len(value) == UUID_BYTES:
        value = uuid.UUID(bytes=value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _comparable(ids: pa.Array) -> pa.Array:
    """Ids as values of a type that Arrow searches, each as its own; their order may be another."""
    plain = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    if pa.types.is_decimal(plain.type):
        plain = plain.view(pa.binary(plain.type.byte_width))
    return plain.cast(pa.large_binary()) if pa.types.is_fixed_size_binary(plain.type) else plain


def narrow(ids: pa.Array) -> pa.Array:
    """Ids of a file or answer, of at most 2 GiB, in the type that the dataset has them in."""
    if pa.types.is_large_string(ids.type):
        return ids.cast(pa.string())
    return ids.cast(pa.binary()) if pa.types.is_large_binary(ids.type) else ids


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
