"""The partition stage on 1 to 4 workers: the same files, byte by byte, whoever writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from mmssl_dist.config.job import Job
from mmssl_dist.exchange import transport
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph import cells, clusters, partition_worker, propagate, similar, streaming, transfer
from mmssl_dist.graph.id_columns import send_ids
from mmssl_dist.graph.partition import progress_of, publish_partitions
from mmssl_dist.graph.partition_worker import write_partitions
from mmssl_dist.storage import Manifest
from tests.artifacts import write_dataset
from tests.multiprocess.communities import job_of, write_data
from tests.processes import WorkerFailure, run_workers


def write(rank: int, workers: int, folder: Path, job: Job, dataset: Manifest, exact_up_to: int) -> None:
    """One worker's part; everything that is done in pieces is done in many."""
    transport._MESSAGE_BYTES = 20_000
    transfer._AT_ONCE = 300
    propagate.CHUNK_EDGES, propagate.COLUMNS, propagate._ROWS = 200, 8, 17
    similar.ROUND_BYTES = 3000
    cells.PROBED = 3
    similar.similar_items.__defaults__ = (exact_up_to,)
    cache = folder / f"cache-{rank}"
    cache.mkdir(exist_ok=True)
    group = dist.group.WORLD if workers > 1 else None
    worker = Worker(rank=rank, world_size=workers, device=torch.device("cpu"), cache=cache, group=group)
    write_partitions(job, worker, dataset, progress_of(job, dataset))


def partitioned(
    tmp_path: Path, workers: int, settings: Mapping[str, Any], exact_up_to: int = 10**6
) -> Manifest:
    folder = tmp_path / f"{workers}-workers"
    dataset = write_data(folder / "dataset")
    job = job_of(folder, settings)
    run_workers(workers, write, workers, folder, job, dataset, exact_up_to)
    return publish_partitions(job, dataset)


@pytest.mark.parametrize(
    ("groups", "settings", "exact_up_to"),
    [
        ((2, 3, 4), {"parts": 4, "method": "streaming", "item_neighbours": 4}, 10),
        ((3,), {"parts": 5, "method": "random"}, 10**6),
        (
            (2, 3, 4),
            {"parts": 4, "method": "random", "feature_dimensions": 5, "row_type": "bfloat16"},
            10,
        ),
        (
            (2,),
            {
                "parts": 7,
                "method": "metis",
                "shuffle_features": True,
                "standardize": False,
                "least_lift": 0,
            },
            10,
        ),
        ((3,), {"parts": 4, "method": "random", "item_neighbours": 1, "least_lift": 1000}, 10),
    ],
    ids=["streaming", "random", "reduced", "metis", "left out"],
)
def test_the_same_files_whoever_writes_them(tmp_path, groups, settings, exact_up_to):
    one = partitioned(tmp_path, 1, settings, exact_up_to)
    for workers in groups:
        assert partitioned(tmp_path, workers, settings, exact_up_to) == one
    assert set(one.facts["item_graphs"]) == {"image", "text"}
    assert one.facts["left_out"] == (["image", "text"] if settings.get("least_lift") else [])


SMALL = {
    "one item": ([(user, 0) for user in range(6)], {"image": ([0], np.ones((1, 3), np.float32))}),
    "one user": ([(0, item) for item in range(6)], {"image": ([2], np.ones((1, 3), np.float32))}),
    "no modality": ([(node, node % 3) for node in range(6)], {}),
    "nobody has the modality": (
        [(node, node) for node in range(5)],
        {"image": ([], np.empty((0, 2), np.float32))},
    ),
    "users and items without training": (
        [(1, 2), (1, 3)],
        {"image": ([0, 5], np.eye(2, 4, dtype=np.float32))},
    ),
    "twins": (
        [(user, item) for user in range(4) for item in range(40)],
        {"image": (list(range(40)), np.ones((40, 2), np.float32))},
    ),
}
"""Training pairs and features of graphs in which some worker or part has next to nothing."""


def small_datasets(folder: Path) -> Iterator[tuple[Job, Manifest]]:
    for case, (pairs, features) in SMALL.items():
        for method in ("streaming", "random", "metis") if case == "one item" else ("streaming", "random"):
            output = folder / f"{case}, {method}"
            dataset = write_dataset(
                path=output / "dataset", train=pairs, validation=[(7, 6)], test=[], features=features
            )
            yield job_of(output, {"parts": 4, "method": method, "item_neighbours": 3}), dataset


def write_small(rank: int, workers: int, folder: Path, jobs: list[tuple[Job, Manifest]]) -> None:
    clusters.ROUNDS, streaming.ROUNDS = 1, 2
    for job, dataset in jobs:
        write(rank=rank, workers=workers, folder=folder, job=job, dataset=dataset, exact_up_to=2)


def test_graphs_with_next_to_nothing(tmp_path):
    manifests = {}
    for workers in (1, 3):
        jobs = list(small_datasets(tmp_path / f"{workers}"))
        run_workers(workers, write_small, workers, tmp_path, jobs, timeout=300)
        manifests[workers] = [publish_partitions(*job) for job in jobs]
    assert manifests[1] == manifests[3]
    for manifest in manifests[1]:
        assert sum(manifest.facts["book"]["users"]) == 8
        assert sum(manifest.facts["book"]["items"]) >= 7


STEPS = {
    "cut_graph": 1,
    "own_lists": 1,
    "similar_items": 1,
    "propagate": 2,
}
"""Functions of a worker, and the call in which worker 1 dies."""


def die(rank: int, folder: Path, job: Job, dataset: Manifest, step: str, call: int) -> None:
    """Worker 1 dies in the given call of a step, at its first start."""
    calls, function, killed = 0, getattr(partition_worker, step), folder / "killed"

    def or_die(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if rank == 1 and calls == call and not killed.exists():
            killed.touch()
            os._exit(9)
        return function(*arguments)

    setattr(partition_worker, step, or_die)
    write(rank=rank, workers=2, folder=folder, job=job, dataset=dataset, exact_up_to=10**6)


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_a_worker_that_dies_costs_its_step_alone(tmp_path):
    settings = {"parts": 3, "method": "random"}
    one = partitioned(tmp_path, 1, settings)
    for step, call in STEPS.items():
        folder = tmp_path / step
        dataset, job = write_data(folder / "dataset"), job_of(folder, settings)
        with pytest.raises(WorkerFailure, match="exit code 9"):
            run_workers(2, die, folder, job, dataset, step, call)
        before = times(folder / "partitions")
        published = {"propagate": ("part-", "image"), "similar_items": ("part-",)}.get(step, ())
        run_workers(2, die, folder, job, dataset, step, 0)
        after = times(folder / "partitions")
        kept = [name for name, time in before.items() if after[name] == time]
        assert publish_partitions(job, dataset) == one
        if published:
            graph = [name for name in after if name.endswith(("indptr.npy", "neighbours.npy", "weight.npy"))]
            assert {name for name in graph if "similar" not in name} <= set(kept)
            images = [name for name in kept if "propagated_image" in name]
            assert len(images) == (3 if "image" in published else 0)
        else:
            assert before == {}


def test_ids_of_any_type_arrive_at_their_nodes():
    run_workers(2, check_ids)


def check_ids(rank: int) -> None:
    numbers = pa.array(range(20), pa.int32())
    texts = pa.array([f"{'x' * (node % 4)}{node}" for node in range(20)])
    nodes = np.random.default_rng(0).permutation(20)
    mine = nodes[:13] if rank == 0 else nodes[13:]
    owner = Exchange(dist.group.WORLD, np.array([0, 6, 20]), rank)
    for ids in (
        texts,
        texts.cast(pa.binary()),
        texts.cast(pa.large_string()),
        pa.array([node % 3 == 0 for node in range(20)]),
        numbers.cast(pa.int64()),
        numbers.cast(pa.date32()),
        numbers.cast(pa.decimal128(12, 2)),
    ):
        column = ids.take(pa.array(mine))
        arrived = send_ids(owner, mine, pa.chunked_array([column[:4], column[4:]]))
        assert arrived.type == ids.type
        assert arrived.equals(ids[0:6] if rank == 0 else ids[6:20])
