"""Interaction tables of any ids: what was read is in the dataset, each pair once, or one message says what is
wrong."""

from __future__ import annotations

import csv
import decimal
import math
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given
from hypothesis import strategies as st

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.ids import canonical_type
from mmssl_dist.errors import InputError, MmsslError
from tests.fuzz.amount import amount
from tests.fuzz.generated_tables import as_written, folder, key
from tests.fuzz.local import Prepared, prepared
from tests.fuzz.refusals import message
from tests.fuzz.values import KINDS, columns
from tests.jobs import raw_job
from tests.unit.data.raw import vectors

CELLS = (
    st.text(max_size=5)
    | st.integers().map(str)
    | st.sampled_from(
        ["", " 1", "1.0", "01", "-0", "1e5", 'q"', "a,b", "NULL", "\ufeff", "\x00", "\r", "x\ny"]
    )
)


def outcome(call: Callable[[], Prepared]) -> Prepared | str:
    try:
        return call()
    except InputError as error:
        return message(error)
    except MmsslError as error:
        raise AssertionError(f"input is to blame, and {error!r} says that the system is") from error


def plain(array: pa.Array) -> pa.Array:
    """Texts as Arrow computes with them."""
    return array.cast(pa.string()) if pa.types.is_string_view(array.type) else array


def as_id(value: Any) -> Any:
    """Floats and decimals are ids where they are whole, as the integers that they are."""
    is_finite = isinstance(value, float | decimal.Decimal) and math.isfinite(value)
    return int(value) if is_finite and value == int(value) else value


def check(result: Prepared, users: list[Any], items: list[Any], catalogue: set[Any]) -> None:
    users, items, catalogue = [*map(as_id, users)], [*map(as_id, items)], set(map(as_id, catalogue))
    pairs = [
        (user, item) for user, item in zip(users, items, strict=True) if user is not None and item is not None
    ]
    numbers = [pair for split in result.pairs.values() for pair in split]
    known = as_written(result.users), as_written(result.items)
    assert sorted(map(repr, known[0])) == sorted({repr(user) for user, _ in pairs})
    assert sorted(map(repr, known[1])) == sorted(map(repr, catalogue))
    made = [(known[0][user], known[1][item]) for user, item in numbers]
    assert len(made) == len(set(made)) == len(set(pairs))
    assert set(made) == set(pairs)
    assert result.dropped == len(users) - len(made)
    assert len(result.vectors) == len(catalogue)


@amount
@given(st.data())
def test_tables(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 12))
    kinds = [data.draw(st.sampled_from(sorted(KINDS))) for _ in range(2)]
    users, items = (data.draw(columns(id_type, size)) for id_type in kinds)
    with folder() as work:
        try:
            pq.write_table(
                pa.table({"user_id": users, "item_id": items}),
                work / "raw/interactions.parquet",
                row_group_size=data.draw(st.integers(1, 12)),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return  # Parquet cannot hold it
        read = pq.read_table(work / "raw/interactions.parquet")
        users, items = (plain(read[name].combine_chunks()) for name in ("user_id", "item_id"))
        distinct = items.drop_null().unique() if canonical_type(items.type) else pa.array([0])
        if pa.types.is_floating(distinct.type):
            distinct = pa.array(sorted({key(v) for v in distinct.to_pylist()} - {None}), distinct.type)
        pq.write_table(
            pa.table({"item_id": distinct, "vector": vectors([[1.0, 2.0]] * len(distinct))}),
            work / "raw/image.parquet",
        )
        result = outcome(lambda: prepared(raw_job(work, buckets=2), work))
        if isinstance(result, Prepared):
            check(result, as_written(users), as_written(items), set(as_written(distinct)))
        else:
            assert re.match(r"\S+/(interactions|image)\.parquet|data\.", result), result


@amount
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12))
@example([("0.0", "0")])  # an integer as pandas writes it beside missing values
def test_csv(rows: list[tuple[str, str]]) -> None:
    with folder() as work:
        with (work / "raw/log.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
            writer.writerows([("user_id", "item_id"), *rows])
        users, items = ([_cell(row[side]) for row in rows] for side in (0, 1))
        users, items = _ids(users), _ids(items)
        distinct = sorted({item for item in items if item is not None})
        id_type = pa.int64() if isinstance(next(iter(distinct), None), int) else pa.string()
        table = {"item_id": pa.array(distinct, id_type), "vector": vectors([[1.0, 2.0]] * len(distinct))}
        pq.write_table(pa.table(table), work / "raw/image.parquet")
        result = outcome(lambda: prepared(raw_job(work, interactions="log.csv", buckets=2), work))
        if isinstance(result, Prepared):
            check(result, users, items, set(distinct))


def _cell(text: str) -> str | None:
    """A cell without the spaces around it, None where it stands for a missing value."""
    text = text.strip(" \t")
    return None if text in Columns().null_values else text


def _ids(cells: list[str | None]) -> list[Any]:
    """Integers where all cells are, also written as 7.0, else the texts."""
    numbers = {cell: re.fullmatch(r"(0|-?[1-9][0-9]*)(\.0+)?", cell) for cell in cells if cell is not None}
    integers = all(number and abs(int(number[1])) < 2**63 for number in numbers.values())
    return [cell if cell is None or not integers else int(cell.split(".")[0]) for cell in cells]


@amount
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4), st.booleans())
@example([(246, 128)], False)  # a row group's copy of a column's name
@example([(246, 1)], False)
@example([(214, 2)], False)  # a row group's copy of a column's type
def test_flipped_parquet(flips: list[tuple[int, int]], of_features: bool) -> None:
    with folder() as work:
        pq.write_table(
            pa.table({"user_id": ["a", "b", "a"], "item_id": [0, 1, 1]}), work / "raw/interactions.parquet"
        )
        pq.write_table(
            pa.table({"item_id": [0, 1], "vector": vectors([[1, 2], [3, 4]])}), work / "raw/image.parquet"
        )
        path = work / "raw" / ("image.parquet" if of_features else "interactions.parquet")
        content = bytearray(path.read_bytes())
        for at, change in flips:
            content[at % len(content)] ^= change
        path.write_bytes(content)
        outcome(lambda: prepared(raw_job(work, buckets=2), work))
