"""A small published graph and a training set-up on it, for tests that train in one or several gloo
processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from mmssl_dist.config import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.partition import partition
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.sampling.batch import Batch, BatchSampler
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.state import TrainingState, initial_state
from mmssl_dist.training.step import TrainingStep
from tests.artifacts import write_dataset

USERS, ITEMS = 40, 30


def publish_graph(
    job: Job,
    seed: int = 0,
    users: Sequence[int | str] | pa.Array = range(USERS),
    items: Sequence[int | str] | pa.Array = range(ITEMS),
) -> None:
    """A random dataset, with some items that lack a modality and some without interactions, and its
    partitions."""
    rng = np.random.default_rng(seed)
    pairs = [
        (int(u), int(i)) for u, i in zip(*np.nonzero(rng.random((USERS, ITEMS - 2)) < 0.25), strict=True)
    ]
    pairs += [(u, u % (ITEMS - 2)) for u in range(USERS) if (u, u % (ITEMS - 2)) not in set(pairs)]
    rng.shuffle(pairs)
    held = len(pairs) // 8
    features = {}
    for number, m in enumerate(job.data.modalities):
        having = np.delete(np.arange(ITEMS), number)  # item 0 lacks the first modality, and so on
        features[m] = (having, rng.normal(size=(ITEMS - 1, 5 + number)).astype(np.float32))
    dataset = write_dataset(
        path=Path(job.output) / "dataset",
        train=pairs[2 * held :],
        validation=pairs[:held],
        test=pairs[held : 2 * held],
        features=features,
        users=users,
        items=items,
    )
    partition(job, dataset)


@dataclass(kw_only=True)
class Trainer:
    """One worker's training set-up, step by step under the test's control."""

    job: Job
    worker: Worker
    graph: LocalGraph
    exchange: Exchange
    state: TrainingState
    sampler: BatchSampler
    step: TrainingStep

    def batch(self, epoch: int, step: int) -> Batch:
        return self.sampler.batch(epoch, step).to(self.worker.device)

    def publish_lists(self) -> None:
        for lists in self.state.lists.values():
            lists.publish()
        self.sampler.publish({m: lists.graph(self.exchange) for m, lists in self.state.lists.items()})


def make_worker(rank: int, job: Job, device: str = "cpu") -> Worker:
    """The worker of this process, whose default process group is the workers'."""
    return Worker(
        rank=rank,
        world_size=job.scaling.workers,
        device=torch.device(device),
        cache=Path(job.output) / "cache",
        group=dist.group.WORLD,
    )


def make_trainer(rank: int, job: Job, device: str = "cpu") -> Trainer:
    """Everything on ``rank``; lists published, empty."""
    worker = make_worker(rank, job, device)
    graph = load_local_graph(job, worker)
    exchange = graph.exchange(worker, job.training.wire)
    state = initial_state(job, graph, worker.device)
    trainer = Trainer(
        job=job,
        worker=worker,
        graph=graph,
        exchange=exchange,
        state=state,
        sampler=BatchSampler(graph, exchange, job, worker.device),
        step=TrainingStep(job, graph, exchange, state),
    )
    trainer.publish_lists()
    return trainer
