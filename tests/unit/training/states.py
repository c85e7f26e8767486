"""Small states of training whose rows say where they belong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from mmssl_dist.config.training_sections import RowOptimizer
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.training.engines import Engine
from mmssl_dist.training.state import TrainingState
from tests.graphs import local_graph

BOOK = PartitionBook((2, 0, 3), (3, 0, 2))  # 5, 0 and 5 nodes


PAIRS = [(u, u) for u in range(5)]


def graph(rank: int = 0, workers: int = 1) -> LocalGraph:
    return local_graph(BOOK, PAIRS, rank, workers)


def tables(
    graph: LocalGraph, seed: int, dimension: int = 4, optimizer: str = "row"
) -> tuple[RowTable, dict[str, ModalityLists]]:
    """Filled with what depends on the seed and the node."""
    numbers = torch.Generator().manual_seed(seed)
    mine = slice(graph.first, graph.first + graph.num_rows)

    def draw(*width: int) -> Tensor:
        return torch.randn(BOOK.num_nodes, *width, generator=numbers)[mine]

    table = RowTable(draw(dimension), RowOptimizer(second_moment=optimizer))  # type: ignore[arg-type]
    table.first_moment, table.second_moment = draw(dimension), draw(table.second_moment.shape[1])
    lists = {}
    for m in ("image", "text"):
        lists[m] = ModalityLists(graph.num_rows, 3)
        lists[m].items, lists[m].scores = (draw(3) * 100).long() % BOOK.num_nodes, draw(3)
        lists[m].publish()
        lists[m].items = (draw(3) * 100).long() % BOOK.num_nodes
    return table, lists


def engine(seed: int, width: int = 3) -> Engine:
    """Stands in for DeepSpeed: a module and made-up moments."""
    module = nn.Linear(width, 2)
    numbers = torch.Generator().manual_seed(seed)
    state = {"steps": torch.tensor([seed])}
    for name, value in module.named_parameters():
        for optimizer in ("", "exp_avg.", "exp_avg_sq."):
            state[f"{optimizer}{name}"] = torch.randn(value.shape, generator=numbers)
    result = SimpleNamespace(module=module, state=lambda: state)
    result.load = lambda stored: vars(result).update(state=lambda: stored)
    return cast(Engine, result)


def dense_state(critic: bool = True, seed: int = 0) -> TrainingState:
    table, lists = tables(graph(), seed)
    return TrainingState(table, lists, engine(seed + 1), engine(seed + 2) if critic else None)
