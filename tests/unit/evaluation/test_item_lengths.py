"""The exponent of item lengths: what it does to rows, and which one validation chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmssl_dist.config.model_sections import ItemGraph, Model
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.evaluate import held_out_metrics
from mmssl_dist.evaluation.item_lengths import _mean_and_error, choose_exponent, fixed_exponent, rows_to_rank
from mmssl_dist.evaluation.propagation import exact_layers, with_length
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency
from tests.graphs import item_nodes, local_graph

USERS, ITEMS, DIMENSION = 60, 24, 6
BOOK = PartitionBook((USERS // 2, USERS // 2), (ITEMS // 2, ITEMS // 2))
ALONE = Exchange(None, BOOK.worker_bounds(1), 0)
SETTINGS = Evaluation(ks=(2, 5), metric="recall@2")
SEEN = [(user, user % ITEMS) for user in range(USERS)]


def random_rows(seed: int = 3) -> torch.Tensor:
    return torch.randn(BOOK.num_nodes, DIMENSION, generator=torch.Generator().manual_seed(seed))


def graph_that_wants(exponent: float, rows: torch.Tensor, validation: bool = True) -> LocalGraph:
    """Each user's held-out items are the two best by the score with that exponent."""
    items = torch.tensor(item_nodes(BOOK))
    users = torch.tensor([node for node in range(BOOK.num_nodes) if node not in set(items.tolist())])
    scores = rows[users] @ with_length(rows[items], exponent).T
    for user, item in SEEN:
        scores[user, item] = -torch.inf
    held = [(user, item) for user, best in enumerate(scores.topk(2).indices.tolist()) for item in best]
    graph = local_graph(BOOK, SEEN, held_out=held)
    if validation:
        return graph
    return replace(
        graph, held_out={**graph.held_out, "validation": local_graph(BOOK, SEEN).held_out["validation"]}
    )


def test_directions_stay_and_lengths_are_raised_to_the_exponent():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.25]])
    torch.testing.assert_close(
        with_length(rows, 2.0), torch.tensor([[15.0, 20.0], [0.0, 0.0], [0.0, 0.0625]])
    )
    torch.testing.assert_close(with_length(rows, 0.0), torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(with_length(rows, 1.0), rows)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_validation_chooses_the_exponent_that_ranks_its_items(exponent):
    rows = random_rows()
    rows[item_nodes(BOOK)] *= torch.linspace(0.2, 3.0, ITEMS)[:, None]
    graph = graph_that_wants(exponent, rows)
    assert choose_exponent(SETTINGS, graph, rows, ALONE) == exponent
    with_it = rows.clone()
    with_it[graph.items] = with_length(rows[graph.items], exponent)
    assert (
        held_out_metrics(
            settings=SETTINGS, graph=graph, rows=with_it, exchange=ALONE, splits=("validation",)
        )["validation"]["recall@2"]
        == 1.0
    )


def test_without_a_clear_gain_it_is_the_dot_product():
    rows = random_rows()
    rows[item_nodes(BOOK)] = with_length(
        rows[item_nodes(BOOK)], 0.0
    )  # of one length: the exponent changes nothing
    assert choose_exponent(SETTINGS, graph_that_wants(2.0, rows), rows, ALONE) == 1.0


def test_one_user_chooses_nothing():
    rows = random_rows()
    rows[item_nodes(BOOK)] *= torch.linspace(0.2, 3.0, ITEMS)[:, None]
    wanting = graph_that_wants(2.0, rows).held_out["validation"]
    plain = graph_that_wants(1.0, rows).held_out["validation"]
    chosen = (wanting.neighbours.view(-1, 2) != plain.neighbours.view(-1, 2)).any(1).nonzero()[:, 0]
    assert len(chosen) > 1  # users whose best items differ between the two
    graph = graph_that_wants(2.0, rows)
    indptr = torch.zeros_like(wanting.indptr)
    first, node = int(chosen[0]), int(wanting.degrees(torch.arange(BOOK.num_nodes)).nonzero()[chosen[0], 0])
    indptr[node + 1 :] = 2
    alone = Adjacency(indptr, wanting.neighbours[2 * first : 2 * first + 2], wanting.weight[:2])
    assert choose_exponent(SETTINGS, graph, rows, ALONE) == 2.0
    one_user = replace(graph, held_out={**graph.held_out, "validation": alone})
    assert choose_exponent(SETTINGS, one_user, rows, ALONE) == 1.0


@pytest.mark.parametrize("users", [1, 2, 4096])
def test_a_single_user_s_gain_is_within_the_standard_error(users):
    mean, error = _mean_and_error(users, total=1.0, squares=1.0)
    assert error >= mean - 1e-15
    mean, error = _mean_and_error(users, total=0.9 * users, squares=0.9 * users)
    assert (mean > error) == (users > 1)


def test_test_interactions_choose_nothing():
    rows = random_rows()
    rows[item_nodes(BOOK)] *= torch.linspace(0.2, 3.0, ITEMS)[:, None]
    graph = graph_that_wants(2.0, rows, validation=False)
    assert len(graph.held_out["test"].neighbours)
    assert choose_exponent(SETTINGS, graph, rows, ALONE) == 1.0


def test_lengths_whose_power_is_not_finite_are_not_tried():
    rows = random_rows()
    rows[item_nodes(BOOK)] *= torch.linspace(0.2, 3.0, ITEMS)[:, None] * 1e30
    assert choose_exponent(SETTINGS, graph_that_wants(1.0, rows), rows, ALONE) == 1.0


@pytest.mark.parametrize("setting", ["auto", 0.5])
def test_rows_to_rank_have_the_exponent_of_the_job(setting):
    settings = SETTINGS.model_copy(update={"length_exponent": setting})
    model = Mmssl(
        Model(dimension=8, modality_weight=0.0, item_graph=ItemGraph(weight=0.0), layers=0), {}, seed=1
    )
    rows = torch.randn(BOOK.num_nodes, 8, generator=torch.Generator().manual_seed(2))
    rows[item_nodes(BOOK)] *= torch.linspace(0.2, 3.0, ITEMS)[:, None]
    graph = replace(graph_that_wants(2.0, rows), propagated={})
    plain = Trained(model=model, id_rows=rows, graph=graph, views={}, exchange=ALONE)
    trained, exact = rows_to_rank(settings, plain)
    assert trained.length_exponent == (2.0 if setting == "auto" else 0.5)
    assert fixed_exponent(settings) == (1.0 if setting == "auto" else 0.5)
    expected = rows.clone()
    expected[graph.items] = with_length(rows[graph.items], trained.length_exponent)
    torch.testing.assert_close(exact.final, expected)
    torch.testing.assert_close(exact_layers(trained).final, expected)
    assert torch.equal(exact.layers[0], rows)  # what new users' rows are summed from stays as trained
