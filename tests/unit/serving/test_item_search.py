"""Lists through an index: without known items, however many those are, and equal to the exact ones where the
index is."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from mmssl_dist.serving import item_search
from mmssl_dist.serving.item_search import ExactSearch, best_items

USERS, ITEMS, WIDTH, K = 40, 300, 8, 12


def data() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (USERS, ITEMS))
    counts = np.concatenate([[0, 1, ITEMS, ITEMS - 3], rng.integers(0, 60, USERS - 4)])
    known = [np.sort(rng.permutation(ITEMS)[:count]) for count in counts]
    return users, items, (np.concatenate([[0], np.cumsum(counts)]), np.concatenate(known))


def by_hand(users: np.ndarray, items: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    scores = users @ items.T
    for user in range(len(users)):
        scores[user, known[1][known[0][user] : known[0][user + 1]]] = -np.inf
    order = np.argsort(-scores, 1, kind="stable")
    return [[i for i in row[:K].tolist() if np.isfinite(scores[user, i])] for user, row in enumerate(order)]


def flat(items: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(WIDTH)
    index.add(items)
    return index


def cells(items: np.ndarray) -> faiss.Index:
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, 5, faiss.METRIC_INNER_PRODUCT)
    index.train(items)
    index.add(items)
    index.nprobe = 5
    return index


def graph(items: np.ndarray) -> faiss.Index:
    index = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = ITEMS
    index.add(items)
    return index


@pytest.mark.parametrize("deep", [1000, 20], ids=["through", "past"])
@pytest.mark.parametrize("make", [ExactSearch, flat, cells, graph])
def test_lists_are_the_best_unknown_items(make, deep, monkeypatch):
    monkeypatch.setattr(item_search, "_DEEP", deep)
    users, items, known = data()
    places, scores = best_items(index=make(items), items=ITEMS, rows=users, known=known, k=K)
    expected = by_hand(users, items, known)
    assert [[place for place in row if place >= 0] for row in places.tolist()] == expected
    assert (places[2] == -1).all()  # knows everything
    assert (places[3] >= 0).sum() == 3
    filled = places >= 0
    assert np.isneginf(scores[~filled]).all()
    direct = np.einsum("qd,qkd->qk", users, items[places])
    np.testing.assert_allclose(scores[filled], direct[filled], rtol=1e-5, atol=1e-5)


def test_equals_are_ordered_by_place():
    items = np.ones((6, WIDTH), np.float32)
    known = np.asarray([0, 2]), np.asarray([0, 3])
    places, _ = best_items(index=flat(items), items=6, rows=items[:1], known=known, k=3)
    assert places.tolist() == [[1, 2, 4]]
