"""Everything that training changes: ID rows, learned lists, dense weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mmssl_dist.config.job import Job
from mmssl_dist.model import Critic, Mmssl
from mmssl_dist.sampling.draws import Purpose, key, normal
from mmssl_dist.sharding.lists import ModalityLists
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import FrozenColumns, RowTable
from mmssl_dist.training.engines import Engine, make_engine

_ROW_DEVIATION = 0.1  # of initial ID rows, whatever the catalogue: LightGCN's choice
ROWS_AT_ONCE = 1 << 13  # whose draws take several times the memory of the rows
_ADAM = (0.9, 0.999)  # of Adam's paper
_ADAM_CRITIC = (0.5, 0.9)  # as published, and usual for WGANs


@dataclass(frozen=True)
class TrainingState:
    """This worker's share.

    Attributes:
        table: ID rows of the local nodes and their optimizer.
        lists: modality -> learned lists of the local nodes; empty when the modality graph is off.
        generator, critic: dense weights in DeepSpeed; no critic unless the adversarial term has one.
    """

    table: RowTable
    lists: Mapping[str, ModalityLists]
    generator: Engine
    critic: Engine | None

    @property
    def model(self) -> Mmssl:
        """The generator's module."""
        model = self.generator.module
        assert isinstance(model, Mmssl)
        return model


def make_model(job: Job, graph: LocalGraph) -> Mmssl:
    """The model with its initial weights, on the CPU."""
    # The last column carries the bias and is no feature.
    dimensions = {m: rows.shape[1] - 1 for m, rows in graph.propagated.items()}
    return Mmssl(job.model, dimensions, key(job.seed, Purpose.INIT))


def initial_rows(job: Job, graph: LocalGraph) -> torch.Tensor:
    """[n, D] float32 normal draws that depend on the node, not on who owns it; zero in the items' feature
    columns."""
    draw, columns = key(job.seed, Purpose.INIT, 1), torch.arange(job.model.dimension)[None]
    rows = torch.empty(graph.num_rows, job.model.dimension)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        chunk = rows[first : first + ROWS_AT_ONCE]
        nodes = torch.arange(len(chunk)) + graph.first + first
        # By node id: any number of workers starts from the same rows.
        torch.mul(normal(draw, nodes[:, None], columns), _ROW_DEVIATION, out=chunk)
    if job.model.feature_columns:
        rows[graph.items, -job.model.feature_columns :] = 0
    return rows


def make_table(job: Job, graph: LocalGraph, device: torch.device) -> RowTable:
    """The initial rows and their optimizer, which leaves the items' feature columns at zero."""
    rows, frozen = initial_rows(job, graph).to(device), None
    if job.model.feature_columns:
        is_item = torch.zeros(len(rows), dtype=torch.bool)
        is_item[graph.items] = True
        frozen = FrozenColumns(is_item.to(device), job.model.feature_columns)
    return RowTable(rows, job.training.rows, frozen)


def make_lists(job: Job, graph: LocalGraph) -> dict[str, ModalityLists]:
    """Empty lists, one set per modality; none when the modality graph is off."""
    size = job.model.modality_graph.size
    return {m: ModalityLists(graph.num_rows, size) for m in sorted(graph.propagated)} if size else {}


def initial_state(job: Job, graph: LocalGraph, device: torch.device) -> TrainingState:
    """The state before the first step (collective: DeepSpeed compares weights over the workers)."""
    dense = job.training.dense
    critic = None
    if job.losses.adversarial.has_critic:
        module = Critic(job.model.dimension, job.losses.adversarial.hidden, key(job.seed, Purpose.CRITIC))
        critic = make_engine(module.to(device), dense.critic_learning_rate, _ADAM_CRITIC, dense)
    return TrainingState(
        table=make_table(job, graph, device),
        lists=make_lists(job, graph),
        generator=make_engine(make_model(job, graph).to(device), dense.learning_rate, _ADAM, dense),
        critic=critic,
    )
