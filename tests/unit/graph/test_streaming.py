"""The streaming cut: even, repeatable, and on planted communities as good as METIS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.datasets.synthesize import draw_interactions, make_synthesis_plan
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph import distinct, streaming
from mmssl_dist.graph.bipartite import Bipartite, bipartite
from mmssl_dist.graph.cut import metis_cut
from mmssl_dist.graph.homes import homes
from mmssl_dist.graph.own_lists import unevenness


def crossing_fraction(graph: Bipartite, part: np.ndarray) -> float:
    of_user = np.repeat(part[: graph.users], graph.of_user.lengths)
    return float(np.mean(of_user != part[graph.users :][graph.of_user.values]))


def streaming_cut(graph: Bipartite, parts: int, seed: int) -> np.ndarray:
    """[users + items] int64 part of each node."""
    alone = homes(
        Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(), group=None),
        graph.users,
        graph.items,
    )
    return np.concatenate(
        streaming.streaming_cut(
            homes=alone, of_user=graph.of_user, of_item=graph.of_item, parts=parts, seed=seed
        )
    )


def planted(users: int = 3000, items: int = 900, interactions: int = 50_000) -> Bipartite:
    plan = make_synthesis_plan(
        users=users, items=items, interactions=interactions, modalities={"image": 1}, seed=1
    )
    return bipartite(*draw_interactions(plan, 0, users), (users, items))


@pytest.mark.processes
@pytest.mark.parametrize("parts", [2, 5, 8])
def test_planted_communities_stay_together(parts):
    graph = planted()
    part = streaming_cut(graph, parts, 0)
    best = crossing_fraction(graph, metis_cut(graph, parts))
    assert crossing_fraction(graph, part) < 1.15 * best
    assert best < 0.5 * (1 - 1 / parts)  # which a random cut has
    for side in (part[: graph.users], part[graph.users :]):
        assert unevenness(np.bincount(side, minlength=parts)) < 1.1
    assert unevenness(np.bincount(part, graph.degrees, minlength=parts)) < 1.1


def test_the_same_cut_every_time_and_whatever_fits_into_memory(monkeypatch):
    graph = planted(600, 200, 8000)
    assert (streaming_cut(graph, 3, 7) == streaming_cut(graph, 3, 7)).all()
    assert (streaming_cut(graph, 3, 7) != streaming_cut(graph, 3, 8)).any()
    before = streaming_cut(graph, 3, 7)
    monkeypatch.setattr(distinct, "_AT_ONCE", 50)
    assert (streaming_cut(graph, 3, 7) == before).all()
    assert crossing_fraction(graph, before) < 0.7 * (1 - 1 / 3)


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
