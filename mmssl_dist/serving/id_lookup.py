"""External ids and places, back and forth, for ids of any type that an export may hold."""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.ids import UUID_BYTES, is_uuid
from mmssl_dist.data.readers.id_types import parse_integers
from mmssl_dist.errors import UnknownIdError


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
        return self._find(value) is not None

    def position(self, value: object) -> int:
        """The position of an id, given as a value of the ids' type or as text.

        Raises:
            UnknownIdError: there is no such id.
        """
        position = self._find(value)
        if position is None:
            example = f", such as {self.array[0].as_py()!s}" if len(self) else ""
            known = f"the run knows {len(self):,} {self.entity}s, with ids of type {self.type_name}"
            remedy = f"Give one from the data{example}."
            raise UnknownIdError(f"{self.entity} id", repr(value), known, remedy)
        return position

    @property
    def type_name(self) -> str:
        """The ids' type in words: the width of offsets is no part of it."""
        return str(self.array.type).removeprefix("large_")

    def find(self, values: Iterable[object]) -> np.ndarray:
        """int64 positions of several ids, -1 for those that are not there."""
        found = (self._find(value) for value in values)
        return np.fromiter((-1 if position is None else position for position in found), np.int64)

    def take(self, positions: np.ndarray) -> pa.Array:
        """The ids at ``positions``, as an array of at most 2 GiB: texts and bytes with 32-bit offsets."""
        return narrow(self.array.take(pa.array(positions, pa.int64())))

    def positions(self, values: Iterable[object]) -> np.ndarray:
        """int64 positions of several ids; raises as ``position`` does."""
        return np.fromiter((self.position(value) for value in values), np.int64)

    def at(self, positions: np.ndarray) -> list[Any]:
        """The ids at ``positions``, as Python values."""
        ids: list[Any] = self.take(positions).to_pylist()
        return ids

    @cached_property
    def _order(self) -> np.ndarray:
        # Arrow sorts no extension types, such as UUIDs; their storage has the same order.
        plain = self.array.storage if isinstance(self.array, pa.ExtensionArray) else self.array
        order: np.ndarray = pc.sort_indices(plain).to_numpy()
        return order

    @cached_property
    def _sorted(self) -> pa.Array:
        return self.array.take(pa.array(self._order))

    def _in_order(self, rank: int) -> Any:
        return self._sorted[rank].as_py()

    def _find(self, value: object) -> int | None:
        """The position of an id, or None."""
        wanted = self._value(value)
        # Bisection in Arrow's own order: a dictionary would take some hundred bytes an id
        at = len(self) if wanted is None else bisect_left(range(len(self)), wanted, key=self._in_order)
        return int(self._order[at]) if at < len(self) and self._in_order(at) == wanted else None

    def _value(self, value: object) -> Any:
        """``value`` as a value of the ids' type; None for what cannot be one."""
        type_ = self.array.type
        if isinstance(value, pa.Scalar):
            value = value.as_py()
        elif isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        try:
            if isinstance(type_, pa.UuidType):
                return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
            if isinstance(value, uuid.UUID) and _is_text(type_):
                value = str(value)
            if isinstance(value, str) and pa.types.is_int64(type_):
                number = parse_integers(pa.array([value]))  # as text in raw files: "007" is not 7
                return None if number is None else number[0].as_py()
            if isinstance(value, str | uuid.UUID) and is_uuid(type_):
                text = str(value)
                return text.encode() if len(text.encode()) == UUID_BYTES else uuid.UUID(text).bytes
            if isinstance(value, str) and not _is_text(type_):
                return pa.scalar(value).cast(type_).as_py()
            if isinstance(value, bool) != pa.types.is_boolean(type_):
                return None  # or True would be the id 1
            converted = pa.scalar(value, type_).as_py()
            return converted if converted == value else None  # Arrow makes 1 of 1.5
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return None


def narrow(ids: pa.Array) -> pa.Array:
    """Ids of a file or answer, of at most 2 GiB, in the type that the dataset has them in."""
    if pa.types.is_large_string(ids.type):
        return ids.cast(pa.string())
    return ids.cast(pa.binary()) if pa.types.is_large_binary(ids.type) else ids


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
