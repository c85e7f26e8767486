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

    def __contains__(self, given: object) -> bool:
        return self._find(given) is not None

    def place(self, given: object) -> int:
        """The place of an id, given as a value of the ids' type or as text.

        Raises:
            UnknownIdError: there is no such id.
        """
        position = self._find(given)
        if position is None:
            example = f", such as {self.array[0].as_py()!s}" if len(self) else ""
            known = f"the run knows {len(self):,} {self.entity}s, with ids of type {self.array.type}"
            remedy = f"Give one from the data{example}."
            raise UnknownIdError(f"{self.entity} id", repr(given), known, remedy)
        return position

    def places(self, given: Iterable[object]) -> np.ndarray:
        """int64 places of several ids; raises as ``place`` does."""
        return np.fromiter((self.place(value) for value in given), np.int64)

    def at(self, positions: np.ndarray) -> list[Any]:
        """The ids at ``places``, as Python values."""
        ids: list[Any] = self.array.take(pa.array(positions, pa.int64())).to_pylist()
        return ids

    @cached_property
    def _order(self) -> np.ndarray:
        plain = self.array.storage if isinstance(self.array, pa.ExtensionArray) else self.array
        order: np.ndarray = pc.sort_indices(plain).to_numpy()
        return order

    @cached_property
    def _sorted(self) -> pa.Array:
        return self.array.take(pa.array(self._order))

    def _in_order(self, rank: int) -> Any:
        return self._sorted[rank].as_py()

    def _find(self, given: object) -> int | None:
        """The place of an id, or None."""
        value = self._value(given)
        # Bisection in Arrow's own order: a dictionary would take some hundred bytes an id
        at = len(self) if value is None else bisect_left(range(len(self)), value, key=self._in_order)
        return int(self._order[at]) if at < len(self) and self._in_order(at) == value else None

    def _value(self, given: object) -> Any:
        """``given`` as a value of the ids' type; None for what cannot be one."""
        type_ = self.array.type
        if isinstance(given, pa.Scalar):
            given = given.as_py()
        elif isinstance(given, np.generic) or (isinstance(given, np.ndarray) and given.ndim == 0):
            given = given.item()
        try:
            if isinstance(type_, pa.UuidType):
                return given if isinstance(given, uuid.UUID) else uuid.UUID(str(given))
            if isinstance(given, str) and not _is_text(type_):
                return pa.scalar(given).cast(type_).as_py()
            if isinstance(given, bool) != pa.types.is_boolean(type_):
                return None  # or True would be the id 1
            value = pa.scalar(given, type_).as_py()
            return value if value == given else None  # Arrow makes 1 of 1.5
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return None


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
