"""Training by workers that each have one core to themselves: the system's own loop, without Ray around it.

    python benchmarks/workers.py SPEC RANK

is one worker; ``train`` starts them all. A worker's sampling thread shares its core, also where it is alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist

from mmssl_dist.cluster.connection import worker_environment
from mmssl_dist.config import Job, load_job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import PartitionData
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.sharding.partitions import LocalGraph, join_partitions
from mmssl_dist.storage import Location
from mmssl_dist.training.loop import TrainingLoop

Figures = dict[str, float]


def train(job: Path, sets: Sequence[str], workers: int, cut: Path | None = None) -> Figures:
    """What the epochs after the first came to, in the median: an entry of the history, without metrics.

    Args:
        job: the YAML; its output has the partitions. sets: overrides.
        cut: a folder made by ``save_cut``, in place of the partitions.
    """
    job = job.resolve()
    settings = load_job(job, sets)
    with tempfile.TemporaryDirectory(prefix="workers-") as name:
        spec = {
            "job": str(job),
            "sets": list(sets),
            "workers": workers,
            "folder": name,
            "cut": None if cut is None else str(cut),
        }
        path = Path(name) / "spec.json"
        path.write_text(json.dumps(spec))
        environment = {
            **os.environ,
            **worker_environment(settings.scaling, settings.storage),
            "OMP_NUM_THREADS": "1",
        }
        started = [
            subprocess.Popen(  # noqa: S603
                [sys.executable, __file__, str(path), str(rank)], env=environment, cwd=job.parent
            )
            for rank in range(workers)
        ]
        try:
            failed = [rank for rank, process in enumerate(started) if process.wait()]
        finally:
            for process in started:
                process.kill()
        if failed:
            raise RuntimeError(f"workers {failed} failed")
        history = json.loads((Path(name) / "history.json").read_text())[1:]
    return {name: median(epoch[name] for epoch in history) for name in history[0]}


def save_cut(graph: LocalGraph, parts: int, folder: Path) -> None:
    """Cut a graph of one partition into ``parts`` ranges of users and items, whoever is joined to whom: the
    features and the item-item graph are left out but for the features' rows."""
    users, items = graph.book.num_users, graph.book.num_items
    indptr, neighbours, weight = (
        x.numpy() for x in (graph.training.indptr, graph.training.neighbours, graph.training.weight)
    )
    at = [[part * count // parts for part in range(parts + 1)] for count in (users, items)]
    book = PartitionBook(*(tuple(b - a for a, b in pairwise(cuts)) for cuts in at))
    ranges = [[(at[0][p], at[0][p + 1]), (users + at[1][p], users + at[1][p + 1])] for p in range(parts)]
    number = np.empty(users + items, np.int64)
    number[np.concatenate([np.arange(*r) for both in ranges for r in both])] = np.arange(users + items)
    for part, both in enumerate(ranges):
        edges = [slice(indptr[a], indptr[b]) for a, b in both]
        arrays = {
            "lengths": np.concatenate([np.diff(indptr[a : b + 1]) for a, b in both]),
            "neighbours": number[np.concatenate([neighbours[e] for e in edges])],
            "weight": np.concatenate([weight[e] for e in edges]),
        }
        for m, rows in graph.propagated.items():
            arrays[f"propagated.{m}"] = np.concatenate([rows.numpy()[a:b] for a, b in both])
        for name, array in arrays.items():
            np.save(folder / f"{part}.{name}.npy", array)
    (folder / "book.json").write_text(json.dumps([book.users, book.items]))


def _load_cut(folder: Path, worker: Worker) -> LocalGraph:
    users, items = json.loads((folder / "book.json").read_text())
    book = PartitionBook(tuple(users), tuple(items))

    def load(part: int) -> PartitionData:
        arrays = {
            path.name.removeprefix(f"{part}.").removesuffix(".npy"): np.load(path)
            for path in folder.glob(f"{part}.*.npy")
        }
        none = np.zeros(users[part] + 1, np.int64), np.empty(0, np.int64)
        return PartitionData(
            part=part,
            users=users[part],
            items=items[part],
            indptr=np.concatenate([[0], np.cumsum(arrays["lengths"])]).astype(np.int64),
            neighbours=arrays["neighbours"],
            weight=arrays["weight"],
            held_out={"validation": none, "test": none},
            propagated={
                name.removeprefix("propagated."): rows for name, rows in arrays.items() if "." in name
            },
            similar={},
        )

    return join_partitions(book, [load(part) for part in book.worker_parts(worker.rank, worker.world_size)])


class NothingKept:
    """A session whose checkpoints are dropped."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        if checkpoint is not None:
            shutil.rmtree(checkpoint)

    def checkpoints(self) -> Sequence[Location]:
        return ()

    def checkpoint_due(self, agree: Callable[[int], int]) -> bool:
        return agree(0) > 0


def work(spec: Path, rank: int) -> None:
    """One worker, on its core."""
    spec_fields = json.loads(spec.read_text())
    workers, folder = spec_fields["workers"], Path(spec_fields["folder"])
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        sys.exit(f"{workers} workers need a core each; this process may use {len(cores)}")
    os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), workers), rank=rank, world_size=workers
    )
    job: Job = load_job(Path(spec_fields["job"]), spec_fields["sets"])
    worker = Worker(
        rank=rank, world_size=workers, device=torch.device("cpu"), cache=folder, group=dist.group.WORLD
    )
    graph = (
        _load_cut(Path(spec_fields["cut"]), worker)
        if spec_fields["cut"]
        else load_local_graph(job, worker, ("validation",))
    )
    sampler = Exchange(dist.new_group(backend="gloo"), graph.book.worker_bounds(workers), rank)
    exchange = graph.exchange(worker)
    metric = job.evaluation.metric
    position = TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=exchange,
        sampler_exchange=sampler,
        session=NothingKept(),
        validate=lambda _: {metric: 0.0},
    ).run()
    if rank == 0:
        (folder / "history.json").write_text(json.dumps(position.history))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
