"""Learned lists: merged by hand and against a plain re-ranking, and what the sampler sees of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sharding.lists import NO_ITEM, ModalityLists

NONE = -math.inf


def merge(lists: ModalityLists, rows: list[int], candidates: list[int], scores: list[list[float]]) -> None:
    lists.merge(torch.tensor(rows), torch.tensor(candidates), torch.tensor(scores))


def test_by_hand():
    lists = ModalityLists(4, 3)
    merge(lists, [2, 0], [10, 11, 12, 13], [[0.4, 0.3, 0.2, 0.1], [NONE, 0.5, NONE, 0.9]])
    assert lists.items.tolist() == [
        [13, 11, NO_ITEM],
        [NO_ITEM] * 3,
        [10, 11, 12],
        [NO_ITEM] * 3,
    ]  # 10 and 12 are known
    # 10 falls behind by its new score; 14 comes in; 12, not among the candidates, keeps its old score
    merge(lists, [2], [10, 11, 14], [[0.05, 0.3, 0.9]])
    assert lists.items[2].tolist() == [14, 11, 12]
    torch.testing.assert_close(lists.scores[2], torch.tensor([0.9, 0.3, 0.2]))
    # fewer candidates than places; 11 is scored anew and stays once
    merge(lists, [2, 3], [11], [[0.95], [NONE]])
    assert lists.items[2].tolist() == [11, 14, 12]
    assert lists.items[3].tolist() == [NO_ITEM] * 3
    assert lists.scores[3].tolist() == [NONE] * 3
    assert lists.items[0].tolist() == [13, 11, NO_ITEM]


@given(
    st.integers(1, 5),
    st.lists(st.sets(st.integers(20, 32), min_size=1, max_size=8), min_size=1, max_size=5),
    st.integers(0, 10**6),
)
def test_any_rounds_keep_the_best(size, rounds, seed):
    rng, lists = np.random.default_rng(seed), ModalityLists(3, size)
    known = rng.random((3, 40)) < 0.2
    stored: list[dict[int, float]] = [{} for _ in range(3)]
    for candidates in map(sorted, rounds):
        rows = sorted(rng.choice(3, rng.integers(1, 4), replace=False).tolist())
        scores = (
            rng.permutation(len(rows) * len(candidates)).reshape(len(rows), -1) / 100 + rng.random() / 1000
        )
        scores[known[np.ix_(rows, candidates)]] = NONE
        merge(lists, rows, candidates, scores.astype(np.float32).tolist())
        for row, values in zip(rows, scores, strict=True):
            fresh = {item: s for item, s in zip(candidates, values.tolist(), strict=True) if s > NONE}
            merged = stored[row] | fresh
            stored[row] = dict(sorted(merged.items(), key=lambda pair: -pair[1])[:size])
    for row in range(3):
        assert lists.items[row].tolist() == [*stored[row], *[NO_ITEM] * (size - len(stored[row]))]
        result = [score for score in lists.scores[row].tolist() if score > NONE]
        np.testing.assert_allclose(result, list(stored[row].values()), rtol=1e-6)
        assert not any(known[row, item] for item in stored[row])


def test_the_graph_shows_what_was_published_last():
    # nodes 0, 1 and 2 are users, 3, 4 and 5 items
    lists, exchange = ModalityLists(6, 2), Exchange(None, np.array([0, 6]), 0)
    merge(lists, [0, 2], [3, 5], [[0.1, 0.2], [NONE, 0.3]])
    assert lists.graph(exchange).indptr.tolist() == [0] * 7
    lists.publish()
    merge(lists, [1], [4], [[0.9]])
    graph = lists.graph(exchange)
    assert graph.indptr.tolist() == [0, 2, 2, 3, 4, 4, 6]
    assert graph.neighbours.tolist() == [3, 5, 5, 0, 0, 2]
    half = 1 / math.sqrt(2)
    torch.testing.assert_close(graph.weight, torch.tensor([half, half, 1.0, 1.0, half, half]))
    lists.publish()
    assert lists.graph(exchange).neighbours.tolist() == [3, 5, 4, 5, 0, 1, 0, 2]
