"""A training that starts from an earlier run: rows of nodes that both know, by external id, and rows of new
nodes from their neighbours.

Every worker reads all partitions of the earlier run, one after the other, and keeps what it owns. So neither
run's partitioning nor its number of workers matters, and no more than one partition is held beside the rows.
"""

# n local nodes, D embedding

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.evaluation.propagation import sum_neighbours
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.launch.earlier_run import START_FROM, EarlierRun, find_earlier_run, shape_error
from mmssl_dist.launch.worker_data import external_ids, feature_maps
from mmssl_dist.model import Mmssl
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.table import RowTable
from mmssl_dist.sharding.topology import Adjacency
from mmssl_dist.training.checkpoint import CRITIC, GENERATOR, load_dense, read_checkpoint, rows_file, verified
from mmssl_dist.training.state import TrainingState

_TABLES = ("rows", "first_moment", "second_moment")


@torch.no_grad()
def take_over(
    job: Job, worker: Worker, *, graph: LocalGraph, exchange: Exchange, state: TrainingState
) -> dict[str, float]:
    """Bring ``state`` from its beginning to where the run of ``training.start_from`` ended (collective).

    Learned lists start empty, since the modality graph is rebuilt within the first epochs.

    Returns:
        users/taken and items/taken, nodes whose rows were taken over; users/new and items/new, the others;
        users/gone and items/gone, nodes of the earlier run that this one does not have.

    Raises:
        InputError: ids or dense weights of the two runs do not fit.
        ArtifactError: a file of the earlier run is damaged.
    """
    earlier = find_earlier_run(job)
    ids = external_ids(job, worker, graph)
    sides = (
        (graph.users, _joined([users for users, _ in ids])),
        (graph.items, _joined([items for _, items in ids])),
    )
    taken = torch.zeros(graph.num_rows, dtype=torch.bool)
    for part in range(len(earlier.book.users)):
        earlier_ids = [_plain(column) for column in earlier.ids(part, worker.cache)]
        pairs = [_shared_ids(own, other) for (_, own), other in zip(sides, earlier_ids, strict=True)]
        # a file has the rows of its users, then those of its items
        source = torch.cat([pairs[0].theirs, pairs[1].theirs + len(earlier_ids[0])])
        target = torch.cat([rows[pair.own] for (rows, _), pair in zip(sides, pairs, strict=True)])
        if len(target):
            _copy(earlier, worker, part=part, source=source, target=target, table=state.table)
            taken[target] = True
    _start_new_rows(graph, exchange, table=state.table, taken=taken)
    _take_dense(job, earlier, worker, state)
    return _figures(graph, exchange, earlier, taken)


class _SharedIds(NamedTuple):
    """Ids that two columns share: their positions in the one and in the other, int64 [k]."""

    own: Tensor
    theirs: Tensor


def _shared_ids(own: pa.ChunkedArray, theirs: pa.Array) -> _SharedIds:
    if own.type != theirs.type:
        raise InputError(
            START_FROM,
            f"a run with ids of type {theirs.type}, where this one has {own.type}",
            "ids are compared by value and type",
            "Set data.columns.types as the earlier run has them, or train without it.",
        )
    # By external id, as the two runs number and partition their nodes each in its own way.
    position_in_theirs = pc.index_in(own, value_set=theirs).combine_chunks()
    return _SharedIds(
        torch.from_numpy(np.flatnonzero(position_in_theirs.is_valid().to_numpy(zero_copy_only=False))),
        torch.from_numpy(position_in_theirs.drop_null().to_numpy().astype(np.int64)),
    )


def _copy(
    earlier: EarlierRun, worker: Worker, *, part: int, source: Tensor, target: Tensor, table: RowTable
) -> None:
    """Rows ``source`` of a partition's file into rows ``target`` of the table, with their moments."""
    name = rows_file(part)
    path = verified(earlier.checkpoint, [name], earlier.training.files, worker.cache)[name]
    stored = load_file(path)
    target = target.to(table.rows.device)
    for tensor in _TABLES:
        values: Tensor = getattr(table, tensor)
        values[target] = stored[tensor][source].to(values.device)


def _take_dense(job: Job, earlier: EarlierRun, worker: Worker, state: TrainingState) -> None:
    """Dense weights and their optimizer; a critic only where both runs have one."""
    engines = {GENERATOR: state.generator}
    if state.critic is not None and CRITIC in earlier.training.files:
        engines[CRITIC] = state.critic
    position, files = read_checkpoint(earlier.checkpoint, engines, worker.cache)
    # Adam's bias correction goes by steps; from 0 the moments taken over would be divided by almost nothing.
    state.table.steps = position.row_steps
    for name, engine in engines.items():
        try:
            stored = load_dense(files, name, engine.module)
        except ArtifactError as error:
            raise shape_error(error) from error
        if name == GENERATOR:
            _turn(stored=stored, job=job, earlier=earlier, worker=worker, model=state.model)
        engine.load(stored)


def _turn(stored: dict[str, Tensor], job: Job, earlier: EarlierRun, worker: Worker, model: Mmssl) -> None:
    """Where features were reduced, bring the weights that project them from the earlier run's directions to
    this one's, in place: other items have other principal components, if only by their sign."""
    reduced = earlier.partitions.facts.get("reduced", {})
    if not reduced:
        return
    own, before = feature_maps(job, worker, model), earlier.feature_maps(tuple(reduced), worker.cache)
    for modality, feature_map in before.items():
        components = own[modality].components
        # As check_inputs has compared them.
        assert feature_map.components is not None
        assert components is not None
        turn = torch.from_numpy(feature_map.components.T @ components)
        name = model.projection_weight(modality)
        # Second moments are of single weights; those of sums follow if the weights' gradients are unrelated.
        for tensor, factor in (
            (name, turn),
            (f"exp_avg.{name}", turn),
            (f"exp_avg_sq.{name}", turn.square()),
        ):
            stored[tensor] = (stored[tensor].double() @ factor).float()


def _start_new_rows(graph: LocalGraph, exchange: Exchange, table: RowTable, taken: Tensor) -> None:
    """Rows of nodes that the earlier run does not know: the direction of the mean of their known neighbours'
    rows, with the mean length of known rows (collective).

    An item's neighbours are those of the item-item graph, else its users; a user's are the items, among them
    those that have just got a row. A node without any keeps its initial draw.
    """
    rows, known = table.rows, taken.to(table.rows.device, copy=True)
    items, users = graph.items.to(rows.device), graph.users.to(rows.device)
    ones = replace(graph.training, weight=torch.ones(()).expand(len(graph.training.neighbours)))
    # Items first, then users, since new users are placed among items that have a row by then.
    for side, graphs in ((items, (*graph.similar.values(),)), (items, (ones,)), (users, (ones,))):
        length = _mean_length(rows, side[known[side]], exchange)
        if not graphs:
            continue
        direction = _known_sums(graphs, rows, known, exchange)
        new = side[~known[side] & (direction[side].abs().sum(1) > 0)]
        if table.frozen is not None:
            # Feature columns of items are no ID rows: they stay zero and may not bend a new row's direction.
            direction[items, -table.frozen.columns :] = 0
        # As long as trained rows: one at initial length would rank as if nobody had ever liked it.
        rows[new] = length * torch.nn.functional.normalize(direction[new], dim=1)
        known[new] = True


def _known_sums(graphs: Sequence[Adjacency], rows: Tensor, known: Tensor, exchange: Exchange) -> Tensor:
    """[n, D]: sums of known neighbours' rows over all ``graphs`` (collective)."""
    masked = rows * known[:, None]
    total = torch.zeros_like(rows)
    for graph in graphs:
        total += sum_neighbours(graph, masked, exchange)
    return total


def _mean_length(rows: Tensor, nodes: Tensor, exchange: Exchange) -> float:
    """Over ``nodes`` of all workers (collective)."""
    own = torch.stack([rows[nodes].norm(dim=1).sum(), rows.new_tensor(float(len(nodes)))])
    total, count = exchange.sum(own).tolist()
    return float(total / max(count, 1.0))


def _figures(graph: LocalGraph, exchange: Exchange, earlier: EarlierRun, taken: Tensor) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, rows, before in (
        ("users", graph.users, sum(earlier.book.users)),
        ("items", graph.items, sum(earlier.book.items)),
    ):
        own = torch.tensor([int(taken[rows].sum()), len(rows)], dtype=torch.int64)
        here, total = map(int, exchange.sum(own.to(exchange.device)))
        result |= {
            f"{name}/taken": float(here),
            f"{name}/new": float(total - here),
            f"{name}/gone": float(before - here),
        }
    return result


def _joined(arrays: Sequence[pa.Array]) -> pa.ChunkedArray:
    return pa.chunked_array([_plain(array) for array in arrays])


def _plain(ids: pa.Array) -> pa.Array:
    """Ids as both runs compare them: decoded, and texts with offsets that any number of them fits."""
    if isinstance(ids, pa.DictionaryArray):
        ids = ids.dictionary_decode()
    return ids.cast(pa.large_string()) if pa.types.is_string(ids.type) else ids
