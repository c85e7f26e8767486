"""The layout of MMSSL's release: train.json, val.json, test.json, each from user row to item rows."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmssl_dist.data.columns import ITEM_ID, ROW, SPLIT, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import Piece, row_location, with_file
from mmssl_dist.data.readers.id_types import IdSummary
from mmssl_dist.errors import InputError

_MAX_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ReleaseInteractions:
    """Interactions in the three JSON files; a file is read whole. ``given`` keeps the files' split."""

    files: tuple[RawFile, ...]
    given: bool
    unit: str = "user"
    user_type: pa.DataType = pa.int64()  # noqa: RUF009, immutable
    item_type: pa.DataType = pa.int64()  # noqa: RUF009, immutable

    @property
    def item_ids(self) -> IdSummary:
        """See ``InteractionSource``."""
        return IdSummary(
            type=self.item_type, source=f"{self.files[0].name}, whose items are row numbers", numeric=True
        )

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """See ``InteractionSource``."""
        return tuple(Piece(number) for number in range(len(self.files)))

    @property
    def last_pieces(self) -> tuple[Piece, ...]:
        """See ``InteractionSource``; a file is one block."""
        return ()

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        return with_file(self, pieces)

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        tree = _load(self.files[piece.file])
        users, lists = [], []
        for key, items in tree.items():
            if not key.isascii() or not key.isdigit() or len(key) > 18:
                raise InputError(
                    self.files[piece.file].name,
                    f"key {key[:80]!r}",
                    "users are row numbers",
                    'Write users as "0", "1", ...',
                )
            rows = _item_rows(items)
            if rows is None:
                raise InputError(
                    row_location(self.files, piece.file, self.unit, int(key)),
                    reprlib.repr(items),
                    "a user has a list of item rows, whole numbers",
                    "Correct the list.",
                )
            users.append(int(key))
            lists.append(rows)
        lengths = [len(rows) for rows in lists]
        user = np.repeat(np.asarray(users, np.int64), lengths)
        columns = {
            USER_ID: user,
            ITEM_ID: np.concatenate([*lists, np.empty(0, np.int64)]).astype(np.int64),
            ROW: user,
        }
        if self.given:
            columns[SPLIT] = np.full(len(user), piece.file, np.int8)
        yield pa.table(columns)


def _load(file: RawFile) -> dict[str, object]:
    if file.size > _MAX_BYTES:
        raise InputError(
            file.name,
            f"{file.size} bytes",
            f"JSON is read whole, so a file has at most {_MAX_BYTES}",
            "Use Parquet and the layout table.",
        )
    try:
        tree = json.loads(file.location.read_bytes(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise InputError(file.name, str(error), "the file must be JSON", "Correct the file.") from error
    if not isinstance(tree, dict):
        raise InputError(
            file.name, type(tree).__name__, "the file maps users to lists of items", "Correct the file."
        )
    return tree


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, which may name no key twice: Python would keep the last one and say nothing."""
    made: dict[str, object] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:80]!r} a second time")
        made[key] = value
    return made


def _item_rows(items: object) -> np.ndarray | None:
    if not isinstance(items, list) or not all(type(item) is int for item in items):
        return None
    try:
        return np.asarray(items, np.int64)
    except OverflowError:
        return None
