"""The streaming cut: even, repeatable, and on planted communities as good as METIS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.datasets.synthesize import draw_interactions, make_plan
from mmssl_dist.graph import streaming
from mmssl_dist.graph.bipartite import Bipartite, bipartite
from mmssl_dist.graph.cut import crossing_fraction, metis_cut, random_cut, unevenness
from mmssl_dist.graph.streaming import streaming_cut


def planted(users: int = 3000, items: int = 900, interactions: int = 50_000) -> Bipartite:
    plan = make_plan(users, items, interactions, {"image": 1}, 1)
    return bipartite(*draw_interactions(plan, 0, users), (users, items))


@pytest.mark.parametrize("parts", [2, 5, 8])
def test_planted_communities_stay_together(parts):
    graph = planted()
    part = streaming_cut(graph, parts, 0)
    best = crossing_fraction(graph, metis_cut(graph, parts))
    assert crossing_fraction(graph, part) < 1.15 * best
    assert best < 0.5 * crossing_fraction(graph, random_cut(graph.users, graph.items, parts, 0))
    for kind in (part[: graph.users], part[graph.users :]):
        assert unevenness(np.bincount(kind, minlength=parts)) < 1.1
    assert unevenness(np.bincount(part, graph.degrees, minlength=parts)) < 1.1


def test_the_same_cut_whatever_fits_into_a_batch(monkeypatch):
    graph = planted(600, 200, 8000)
    assert (streaming_cut(graph, 3, 7) == streaming_cut(graph, 3, 7)).all()
    assert (streaming_cut(graph, 3, 7) != streaming_cut(graph, 3, 8)).any()
    monkeypatch.setattr(streaming, "_BATCH_EDGES", 50)  # many more batches: another cut, as good
    part = streaming_cut(graph, 3, 7)
    assert crossing_fraction(graph, part) < 0.7 * crossing_fraction(graph, random_cut(600, 200, 3, 0))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 6), st.data())
def test_any_graph_is_cut_into_even_parts(users, items, parts, data):
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    pairs = data.draw(st.lists(pair, max_size=80, unique=True))
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    part = streaming_cut(bipartite(rows[:, 0], rows[:, 1], (users, items)), parts, 0)
    assert part.shape == (users + items,)
    assert part.min() >= 0
    assert part.max() < parts
    for count, chosen in ((users, part[:users]), (items, part[users:])):
        assert np.bincount(chosen, minlength=parts).max() <= 1.05 * count / parts + 1
