"""A modality left out, against the same model with its weights at zero wherever the modality comes in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmssl_dist.config.model_sections import ItemGraph, ModalityGraph, Model
from mmssl_dist.config.training_sections import Evaluation
from mmssl_dist.evaluation.contributions import _without, metrics_without
from mmssl_dist.evaluation.evaluate import held_out_metrics
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency, adjacency_from_pairs
from tests.graphs import item_nodes, local_graph

BOOK = PartitionBook((9, 8), (12, 10))
PAIRS = [(u, i) for u in range(17) for i in range(22) if (3 * u + 5 * i) % 7 < 2]
HELD = [(u, (u * 4 + 1) % 22) for u in range(17)]
ALONE = Exchange(None, BOOK.worker_bounds(1), 0)
SETTINGS = Evaluation(ks=(3, 5), metric="recall@5")
MODALITIES = ("image", "text")
SPLITS = ("validation", "test")


def lists(seed: int, of: list[int]) -> Adjacency:
    listed = torch.zeros(BOOK.num_nodes, BOOK.num_nodes, dtype=torch.bool)
    drawn = torch.rand(len(of), len(of), generator=torch.Generator().manual_seed(seed)) < 0.2
    listed[torch.tensor(of)[:, None], torch.tensor(of)] = drawn
    return adjacency_from_pairs(*listed.nonzero(as_tuple=True), num_rows=BOOK.num_nodes)


def graph() -> LocalGraph:
    whole, generator = local_graph(BOOK, PAIRS, held_out=HELD), torch.Generator().manual_seed(5)
    features = {m: torch.randn(BOOK.num_nodes, 4, generator=generator) for m in MODALITIES}
    similar = {m: lists(seed, item_nodes(BOOK)) for seed, m in enumerate(MODALITIES)}
    return replace(whole, propagated=features, similar=similar)


VIEWS = {m: lists(seed, list(range(BOOK.num_nodes))) for seed, m in enumerate(MODALITIES, 7)}
ROWS = torch.randn(BOOK.num_nodes, 8, generator=torch.Generator().manual_seed(2))


def model(**settings: object) -> Mmssl:
    return Mmssl(Model(dimension=8, **settings), dict.fromkeys(MODALITIES, 3), seed=1)


def trained(weights: Mmssl, whole: LocalGraph, views: dict[str, Adjacency]) -> Trained:
    return Trained(model=weights, id_rows=ROWS, graph=whole, views=views, exchange=ALONE)


def silent(adjacency: Adjacency) -> Adjacency:
    return replace(adjacency, weight=torch.zeros_like(adjacency.weight))


@pytest.mark.parametrize(
    "settings",
    [
        {
            "modality_weight": 0.7,
            "item_graph": ItemGraph(weight=0.6),
            "modality_graph": ModalityGraph(size=3),
        },
        {
            "modality_weight": 0.7,
            "item_graph": ItemGraph(weight=0.0),
            "modality_graph": ModalityGraph(size=0),
        },
        {
            "modality_weight": 0.0,
            "item_graph": ItemGraph(weight=0.6),
            "modality_graph": ModalityGraph(size=0),
        },
    ],
    ids=["all", "tower", "item graph"],
)
def test_everything_that_comes_from_it_is_left_out(settings):
    weights, whole = model(**settings), graph()
    views = VIEWS if settings["modality_graph"].size else {}
    result = metrics_without(SETTINGS, trained(weights, whole, views), SPLITS)
    assert list(result) == list(MODALITIES)
    for modality in MODALITIES:
        other = model(**settings)
        with torch.no_grad():
            other.projection(modality).weight.zero_()
            other.projection(modality).bias.zero_()
        quiet = replace(whole, similar={**whole.similar, modality: silent(whole.similar[modality])})
        quiet_views = {**views, modality: silent(VIEWS[modality])} if views else {}
        rows = exact_rows(trained(other, quiet, quiet_views))
        assert result[modality] == held_out_metrics(
            settings=SETTINGS, graph=whole, rows=rows, exchange=ALONE, splits=SPLITS
        )
    everything = held_out_metrics(
        settings=SETTINGS,
        graph=whole,
        rows=exact_rows(trained(weights, whole, views)),
        exchange=ALONE,
        splits=SPLITS,
    )
    assert result["image"] != everything != result["text"]


def test_what_a_model_does_not_use_contributes_nothing():
    weights = model(
        modality_weight=0.0, item_graph=ItemGraph(weight=0.0), modality_graph=ModalityGraph(size=0)
    )
    whole = trained(weights, graph(), {})
    assert metrics_without(SETTINGS, whole, SPLITS) == {}
    everything = exact_rows(whole)
    for modality in MODALITIES:
        assert torch.equal(exact_rows(_without(modality, whole)), everything)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_model_without_features_is_not_ranked_again(layers, monkeypatch):
    plain = model(modality_weight=0.0, item_graph=ItemGraph(weight=0.0), layers=layers)
    passes = []
    monkeypatch.setattr(
        "mmssl_dist.evaluation.contributions.exact_rows", lambda *given: passes.append(given) or ROWS
    )
    assert metrics_without(SETTINGS, trained(plain, graph(), {}), SPLITS) == {}
    assert passes == []


@pytest.mark.parametrize(
    "settings",
    [
        {"modality_weight": 0.0, "item_graph": ItemGraph(weight=0.5)},
        {"modality_weight": 0.1, "item_graph": ItemGraph(weight=0.0)},
        {
            "modality_weight": 0.0,
            "item_graph": ItemGraph(weight=0.0),
            "modality_graph": ModalityGraph(size=3),
        },
    ],
)
def test_a_model_with_any_part_that_takes_features_is(settings):
    views = VIEWS if "modality_graph" in settings else {}
    measured = metrics_without(SETTINGS, trained(model(**settings), graph(), views), SPLITS)
    assert set(measured) == set(MODALITIES)
    assert measured["image"] != measured["text"]  # each is a ranking of its own
