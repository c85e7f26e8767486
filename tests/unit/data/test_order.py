"""Sorting by packed keys, against NumPy's lexsort, also where the keys do not fit; rows in fragments and
back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.data.order import order_of, order_within, sorted_rows
from mmssl_dist.data.packed_rows import from_fragments, to_fragments

SMALL, WIDE = st.integers(0, 5), st.integers(0, 2**40)


@given(
    st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=40)
    | st.lists(st.tuples(WIDE, WIDE, SMALL), max_size=40)
)
def test_rows_ascend_by_the_first_key_then_the_next(rows):
    keys = [np.asarray(key, np.int64) for key in zip(*rows, strict=True)] or [np.empty(0, np.int64)] * 3
    assert [rows[i] for i in order_of(*keys)] == sorted(rows)
    assert list(zip(*(key.tolist() for key in sorted_rows(*keys)), strict=True)) == sorted(rows)


@given(st.lists(st.tuples(SMALL, st.sampled_from([0, 1, 2, 2**63, 2**63 + 1, 2**64 - 1])), max_size=30))
def test_draws_order_within_groups_to_their_last_bit_and_ties_by_position(rows):
    groups = np.asarray([group for group, _ in rows], np.int64)
    draws = np.asarray([draw for _, draw in rows], np.uint64)
    assert order_within(groups, draws).tolist() == np.lexsort((draws, groups)).tolist()


@pytest.mark.parametrize("buckets", [3, 70000])
def test_rows_survive_fragments(buckets):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, buckets, 200).astype(np.int32)
    texts = [None if n % 7 == 0 else f"row {n}" for n in range(200)]
    table = pa.table(
        {"text": texts, "absent": pa.nulls(200, pa.int64()), "number": range(200), "bucket": numbers}
    )
    other = table.slice(0, 50).set_column(1, "absent", pa.array(range(50)))

    def same(batch):
        return batch

    fragments = pa.concat_tables([next(to_fragments(same)(table)), next(to_fragments(same)(other))])
    assert fragments.num_rows == len(set(numbers.tolist())) + len(set(numbers[:50].tolist()))
    assert list(from_fragments(same)(fragments.slice(0, 0))) == []
    back = from_fragments(same)(fragments.take(rng.permutation(fragments.num_rows)))
    assert back.schema.field("absent").type == pa.int64()
    columns = ["number", "absent", "text", "bucket"]
    expected = pa.concat_tables([table, other]).select(columns)
    by = [("number", "ascending"), ("absent", "ascending")]
    assert back.select(columns).sort_by(by).equals(expected.sort_by(by))


def test_fragments_take_less_than_their_rows():
    numbers = np.arange(20_000)
    users = [f"user-{user}" for user in numbers * 7919 % 5000]
    table = pa.table({"user": users, "row": numbers, "bucket": (numbers % 4).astype(np.int32)})
    (fragments,) = to_fragments(lambda rows: rows)(table)
    assert fragments.nbytes < table.nbytes / 3
