"""Measures a step on this machine: a few steps of the job's own model on two synthetic graphs in memory."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from mmssl_dist.config.job import Job
from mmssl_dist.datasets.synthesize import draw_interactions, make_synthesis_plan
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Lists, bipartite
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import PartitionData
from mmssl_dist.graph.similar import symmetric_weights
from mmssl_dist.planning.resource_plan import Speed
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sharding.partitions import LocalGraph, join_partitions
from mmssl_dist.training.state import initial_state
from mmssl_dist.training.step import TrainingStep

_GRAPHS = ((4_000, 1_500, 60_000), (60_000, 18_000, 1_100_000))  # users, items, interactions
_WARM_UP, _MEASURED = 2, 5


def calibrate(job: Job, widths: dict[str, int], workers: int) -> Speed:
    """Measure on this machine, in this process, with the cores of one worker. Call it once in a process:
    DeepSpeed keeps the first process group it sees.

    Args:
        widths: width F of the features, by modality.
        workers: W, between which the batch will be shared.
    """
    # A worker's part of the batch, at least a pair per partition: an empty draw would measure nothing.
    share = max(job.partition.parts, job.training.batch_size // workers)
    training = job.training.model_copy(update={"batch_size": share, "steps_per_epoch": "all"})
    job = job.model_copy(update={"training": training})
    device = torch.device("cuda" if job.scaling.gpus_per_worker and torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(job.scaling.cpus_per_worker)
    # DeepSpeed needs a process group, even of one
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        points = [
            _measure(job, synthetic_graph(*sizes, widths, job.partition.item_neighbours), device)
            for sizes in _GRAPHS
        ]
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(before)
    # Two points give a line: a fixed cost per step, and one per row that is fetched.
    (rows, seconds), (more_rows, more_seconds) = points
    per_row = max(0.0, (more_seconds - seconds) / (more_rows - rows)) if more_rows > rows else 0.0
    return Speed(max(0.0, seconds - per_row * rows), per_row, device.type)


def synthetic_graph(
    users: int, items: int, interactions: int, widths: dict[str, int], neighbours: int
) -> LocalGraph:
    """A graph of one partition, with power-law degrees and planted communities; its features are noise.

    Args:
        widths: width F of the features, by modality.
        neighbours: entries per item and modality of a random item-item graph.
    """
    plan = make_synthesis_plan(users, items, interactions, widths, seed=0)
    graph = bipartite(*draw_interactions(plan, 0, users), (users, items))
    lengths, nodes = graph.degrees, np.arange(users + items)
    values = np.concatenate(
        [graph.of_user.values.astype(np.int64) + users, graph.of_item.values.astype(np.int64)]
    )
    root = np.sqrt(np.maximum(lengths, 1)).astype(np.float32)
    rng = np.random.default_rng(0)
    none = np.zeros(users + 1, np.int64), np.empty(0, np.int64)
    data = PartitionData(
        part=0,
        users=users,
        items=items,
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        neighbours=values,
        weight=1 / (root[np.repeat(nodes, lengths)] * root[values]),
        held_out={"validation": none, "test": none},
        propagated={
            m: rng.standard_normal((users + items, width + 1), np.float32) for m, width in widths.items()
        },
        similar={m: _random_lists(rng, users, items, neighbours) for m in widths} if neighbours else {},
    )
    return join_partitions(PartitionBook((users,), (items,)), [data])


def _random_lists(
    rng: np.random.Generator, users: int, items: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = rng.integers(0, items, (items, 1))
    chosen = np.sort((first + np.arange(1, 1 + size) * 7) % items, 1).ravel()  # distinct within a row
    graph = Lists(np.arange(items + 1, dtype=np.int64) * size, chosen)
    return (
        graph.indptr,
        chosen + users,
        symmetric_weights(graph, np.bincount(chosen, minlength=items)[chosen]),
    )


def _measure(job: Job, graph: LocalGraph, device: torch.device) -> tuple[float, float]:
    """Mean number of ID rows, and median seconds of a step with its sampling."""
    exchange = Exchange(dist.group.WORLD, graph.book.worker_bounds(1), 0)
    state = initial_state(job, graph, device)
    sampler, step = BatchSampler(graph, exchange, job, device), TrainingStep(job, graph, exchange, state)
    sampler.publish({m: lists.graph(exchange) for m, lists in state.lists.items()})
    rows, seconds = [], []
    for number in range(_WARM_UP + _MEASURED):
        started = time.perf_counter()
        batch = sampler.batch(*divmod(number, sampler.steps))
        step(batch.to(device))  # reads the losses last, so the device has finished
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - started)
            rows.append(len(batch.id_route.requested))
    # The median, since a single step that something else on the machine delayed would move a mean.
    return float(np.mean(rows)), float(np.median(seconds))
