"""Blockwise ranking against a dense sort, for any block sizes, with ties, masks and too few items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl_dist.errors import NonFiniteError
from mmssl_dist.evaluation.ranking import Ranking, Seen, _select, hits_of, top_k
from mmssl_dist.exchange.exchange import Exchange


def csr(lists: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    indptr = np.concatenate([[0], np.cumsum([len(nodes) for nodes in lists])])
    nodes = [node for row in lists for node in row]
    return torch.from_numpy(indptr.astype(np.int64)), torch.tensor(nodes, dtype=torch.int64)


def rank(
    users: np.ndarray,
    items: np.ndarray,
    item_nodes: np.ndarray,
    seen: list[list[int]],
    k: int,
    user_block: int = 2,
    item_block: int = 3,
) -> Ranking:
    exchange = Exchange(None, np.asarray([0, 10**6]), 0)
    return top_k(
        users=torch.from_numpy(users),
        seen=[Seen(*csr(seen))],
        items=torch.from_numpy(items),
        item_nodes=torch.from_numpy(item_nodes),
        k=k,
        user_block=user_block,
        item_block=item_block,
        exchange=exchange,
    )


def dense(
    users: np.ndarray, items: np.ndarray, item_nodes: np.ndarray, seen: list[list[int]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    scores = (users @ items.T).astype(np.float32)
    nodes = np.full((len(users), k), -1)
    best = np.full((len(users), k), -np.inf, np.float32)
    for user, known in enumerate(seen):
        scores[user, np.isin(item_nodes, known)] = -np.inf
        order = np.lexsort((item_nodes, -scores[user]))[:k]
        order = order[np.isfinite(scores[user, order])]
        nodes[user, : len(order)], best[user, : len(order)] = item_nodes[order], scores[user, order]
    return nodes, best


def test_a_case_by_hand() -> None:
    users = np.asarray([[1.0, 0.0], [0.0, 1.0]], np.float32)
    items = np.asarray([[3, 1], [2, 2], [2, 3], [1, 3]], np.float32)
    got = rank(users, items, np.asarray([10, 11, 20, 21]), [[10], [10, 11, 21]], k=3)
    assert got.nodes.tolist() == [[11, 20, 21], [20, -1, -1]]  # 11 and 20 tie: the lower node first
    assert got.scores.tolist() == [[2, 2, 1], [3, -np.inf, -np.inf]]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_same_as_a_dense_sort_for_any_blocks(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, m, k = (data.draw(st.integers(low, high)) for low, high in ((0, 6), (0, 300), (1, 9)))
    users = rng.integers(-2, 3, (n, 3)).astype(
        np.float32
    )  # small whole numbers: exact scores, many ties, zeros
    items = rng.integers(-2, 3, (m, 3)).astype(np.float32)
    item_nodes = np.sort(rng.choice(10 * m, m, replace=False)) if m else np.empty(0, np.int64)
    seen = [sorted(rng.choice(item_nodes, rng.integers(0, m + 1), replace=False).tolist()) for _ in range(n)]
    got = rank(
        users=users,
        items=items,
        item_nodes=item_nodes,
        seen=seen,
        k=k,
        user_block=data.draw(st.integers(1, 7)),
        item_block=data.draw(st.integers(1, 400)),
    )
    nodes, scores = dense(users=users, items=items, item_nodes=item_nodes, seen=seen, k=k)
    np.testing.assert_array_equal(got.nodes.numpy(), nodes)
    np.testing.assert_array_equal(got.scores.numpy(), scores)


def test_popularity_is_a_ranking_with_one_column() -> None:
    degree = np.asarray([[3], [9], [9], [1]], np.float32)
    got = rank(np.ones((1, 1), np.float32), degree, np.asarray([5, 6, 7, 8]), [[7]], k=4)
    assert got.nodes.tolist() == [[6, 5, 8, -1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        rank(np.ones((1, 1), np.float32), np.asarray([[1], [bad]], np.float32), np.asarray([5, 6]), [[]], k=1)


def test_selection_through_chunks_keeps_the_order_of_equals() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(-3, 4, (20, 64 * 40)).astype(np.float32) * rng.choice(
        [0.0, -0.0, 1.0], (20, 64 * 40)
    )
    scores[3] = -np.inf
    values, columns = _select(torch.from_numpy(scores.astype(np.float32)), 7)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(columns.numpy(), expected)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(scores, expected, 1))


def test_hits_of() -> None:
    nodes = torch.tensor([[7, 4, -1], [4, 9, 5], [4, 5, 7]])
    hits, positives = hits_of(nodes, *csr([[4, 7, 8], [], [7]]))
    assert hits.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
    assert positives.tolist() == [3, 0, 1]
    hits, positives = hits_of(nodes, *csr([[], [], []]))
    assert not hits.any()
    assert positives.tolist() == [0, 0, 0]


def test_hits_of_takes_held_out_items_in_any_order_and_large_ids() -> None:
    big = 2**31
    hits, _ = hits_of(torch.tensor([[big + 7, big], [big - 1, -1]]), *csr([[big + 9, big], [big - 1]]))
    assert hits.tolist() == [[False, True], [True, False]]
