"""Unions of node ids, and where everything stands in them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.sampling.node_union import merge

ids = st.lists(st.one_of(st.integers(0, 9), st.integers(2**31 - 3, 2**31 + 3)), max_size=20)


@given(st.lists(ids, min_size=1, max_size=4))
def test_every_id_stands_where_it_is_said_to(given_ids):
    tensors = [torch.tensor(each, dtype=torch.int64) for each in given_ids]
    union, places = merge(*tensors)
    assert union.dtype == torch.int64
    assert union.tolist() == sorted({x for each in given_ids for x in each})
    assert [union[place].tolist() for place in places] == given_ids
