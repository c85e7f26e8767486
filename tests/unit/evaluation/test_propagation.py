"""Exact rows against dense products, in chunks of any size; metrics and popularity on a case ranked by
hand."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmssl_dist.config.model_sections import ItemGraph, ModalityGraph, Model
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.errors import InputError
from mmssl_dist.evaluation import propagation
from mmssl_dist.evaluation.evaluate import held_out_metrics, means_of, popularity_users, rank_items
from mmssl_dist.evaluation.propagation import exact_rows, sum_neighbours
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.model import Mmssl, normalize
from mmssl_dist.sharding.topology import Adjacency, adjacency_from_pairs
from tests.graphs import dense, lists_of, local_graph

BOOK = PartitionBook((4, 3), (5, 2))
PAIRS = [(u, i) for u in range(6) for i in range(6) if (u + 2 * i) % 3 < 2]  # user 6 and item 6 have none
ALONE = Exchange(None, BOOK.worker_bounds(1), 0)


def view(seed: int) -> Adjacency:
    nodes = torch.arange(BOOK.num_nodes)
    listed = torch.rand(BOOK.num_nodes, BOOK.num_nodes, generator=torch.Generator().manual_seed(seed)) < 0.2
    rows, other = listed.nonzero(as_tuple=True)
    return adjacency_from_pairs(rows, nodes[other], BOOK.num_nodes)


def similar() -> Adjacency:
    """Each item's next item, with weights that differ; the last has none."""
    items = torch.arange(BOOK.num_nodes)[torch.from_numpy(BOOK.is_item(np.arange(BOOK.num_nodes)))]
    lists = adjacency_from_pairs(items[:-1], items[1:], BOOK.num_nodes)
    return replace(lists, weight=torch.linspace(0.5, 1.5, len(items) - 1))


def matrix(adjacency: Adjacency) -> torch.Tensor:
    whole = torch.zeros(BOOK.num_nodes, BOOK.num_nodes)
    rows = torch.repeat_interleave(torch.arange(BOOK.num_nodes), adjacency.indptr.diff())
    whole[rows, adjacency.neighbours] = adjacency.weight
    return whole


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 21])
@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("views", [0, 3])
def test_equal_dense_products_in_chunks_of_any_size(monkeypatch, chunk, layers, views):
    monkeypatch.setattr(propagation, "CHUNK_EDGES", chunk)
    graph = local_graph(BOOK, PAIRS)
    settings = Model(
        dimension=8, layers=layers, modality_graph=ModalityGraph(size=views), item_graph=ItemGraph(weight=0.5)
    )
    graph = replace(graph, similar={"image": similar()})
    model = Mmssl(settings, {"image": 1}, seed=1)
    ids = torch.randn(BOOK.num_nodes, 8, generator=torch.Generator().manual_seed(2))
    graphs = {"image": view(3)} if views else {}
    actual = exact_rows(Trained(model=model, id_rows=ids, graph=graph, views=graphs, exchange=ALONE))
    assert not actual.requires_grad
    weights = dense(BOOK, PAIRS).float()
    rows = ids
    if views:
        rows = ids + settings.id_weight * normalize(model.attend({"image": matrix(graphs["image"]) @ ids}))
    total, power = rows.clone(), rows
    for _ in range(layers):
        power = weights @ power
        total = total + power
    tower = normalize(model.project("image", graph.propagated["image"]))
    items = normalize(matrix(similar()) @ ids)
    interactions = (weights > 0).float()
    users = interactions @ items / interactions.sum(1, keepdim=True).clamp(min=1)
    assert items.any()
    assert users.any()
    expected = total / (layers + 1) + settings.modality_weight * tower + 0.5 * (items + users)
    torch.testing.assert_close(actual, expected.detach())


def test_chunks_are_bounded_but_for_single_rows(monkeypatch):
    monkeypatch.setattr(propagation, "CHUNK_EDGES", 4)
    sizes = [0, 3, 1, 1, 9, 0, 0, 2, 2, 1, 0]
    adjacency = lists_of([list(range(size)) for size in sizes])
    chunks = propagation._chunks(adjacency.indptr)
    assert [row for first, last in chunks for row in range(first, last)] == list(range(len(sizes)))
    for first, last in chunks:
        assert sum(sizes[first:last]) <= 4 or last == first + 1
    assert len(chunks) == 5
    assert propagation._chunks(torch.tensor([0])) == []


def test_no_edges_and_no_rows():
    nothing = lists_of([[]] * BOOK.num_nodes)
    assert torch.equal(
        sum_neighbours(nothing, torch.ones(BOOK.num_nodes, 2), ALONE), torch.zeros(BOOK.num_nodes, 2)
    )
    empty = Exchange(None, PartitionBook((0,), (0,)).worker_bounds(1), 0)
    assert sum_neighbours(lists_of([]), torch.ones(0, 2), empty).shape == (0, 2)


def test_it_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sum_neighbours(local_graph(BOOK, PAIRS).training, torch.ones(BOOK.num_nodes, 2), ALONE)


# Four users, five items (ranks); nodes: users 0, 1, items 2, 3, 4, then users 5, 6, items 7, 8.
CUT = PartitionBook((2, 2), (3, 2))
TRAIN = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (3, 2)]
HELD = [(0, 3), (0, 2), (1, 4), (3, 0)]  # user 2 holds nothing out
SETTINGS = Evaluation(ks=(1, 2), metric="recall@2", user_block=2, item_block=2)


def test_metrics_by_hand():
    graph = local_graph(CUT, TRAIN, held_out=HELD)
    exchange = Exchange(None, CUT.worker_bounds(1), 0)
    items = torch.tensor(
        [[0.5], [0.4], [0.3], [0.2], [0.1]]
    )  # every user with row 1 ranks items 0, 1, 2, 3, 4
    rows = torch.zeros(9, 1)
    rows[[2, 3, 4, 7, 8]], rows[[0, 1, 5]], rows[6] = items, 1.0, -1.0  # user 3 ranks them the other way
    result = held_out_metrics(
        settings=SETTINGS, graph=graph, rows=rows, exchange=exchange, splits=("validation", "test")
    )
    # user 0 knows 0, 1: sees 2, 3, both held out; user 1 knows 0, 1: sees 2, 3, neither is 4;
    # user 3 knows 2: sees 4, 3, not 0
    wanted = {
        "recall@1": 0.5 / 3,
        "precision@1": 1 / 3,
        "ndcg@1": 1 / 3,
        "hit_rate@1": 1 / 3,
        "mrr@1": 1 / 3,
        "recall@2": 1 / 3,
        "precision@2": 1 / 3,
        "ndcg@2": 1 / 3,
        "hit_rate@2": 1 / 3,
        "mrr@2": 1 / 3,
    }
    assert result["validation"] == pytest.approx(wanted)
    assert result["test"] == result["validation"]
    ranking = rank_items(
        settings=SETTINGS,
        graph=graph,
        users=graph.users,
        user_rows=rows[graph.users],
        item_rows=rows[graph.items],
        k=5,
        exchange=exchange,
    )
    assert ranking.nodes.tolist() == [
        [4, 7, 8, -1, -1],
        [4, 7, 8, -1, -1],
        [3, 4, 7, 8, -1],
        [8, 7, 3, 2, -1],
    ]


def test_popularity_by_hand():
    graph = local_graph(CUT, TRAIN, held_out=HELD)
    # by training interactions: item 0 (3), 1 (2), 2 (1), 3 (0), 4 (0); ties by node
    exchange = Exchange(None, CUT.worker_bounds(1), 0)
    result = means_of(SETTINGS, popularity_users(SETTINGS, graph, exchange, ("test",)), exchange)["test"]
    # user 0 sees 2, 3: two hits; user 1 sees 2, 3: none; user 3 sees 0, 1: its one at rank 1
    assert result["recall@1"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert result["recall@2"] == result["ndcg@2"] == pytest.approx(2 / 3)
    assert result["precision@2"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert result["mrr@2"] == pytest.approx(2 / 3)
    assert math.isclose(result["ndcg@1"], 2 / 3)


def test_a_split_without_interactions_has_no_metrics():
    graph = local_graph(CUT, TRAIN)
    with pytest.raises(InputError, match="no user with held-out interactions"):
        held_out_metrics(
            settings=SETTINGS,
            graph=graph,
            rows=torch.zeros(9, 1),
            exchange=Exchange(None, CUT.worker_bounds(1), 0),
            splits=("test",),
        )
