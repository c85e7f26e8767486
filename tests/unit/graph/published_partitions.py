"""What the published partitions of a job say, in words that do not depend on the cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.graph.partition_files import PartitionData, load_ids, load_partition, read_book
from mmssl_dist.storage import Location, Manifest, open_location
from tests.oracle import reference as oracle
from tests.unit.graph.conftest import COLD_ITEM, ITEMS, USERS, training_pairs


def location(job: Job) -> Location:
    return open_location(job.output, Storage()) / "partitions"


def load_all(job: Job, manifest: Manifest) -> list[PartitionData]:
    cache = Path(job.output) / "cache"
    return [load_partition(location(job), manifest, p, cache) for p in range(read_book(manifest).parts)]


def names_by_node(job: Job, manifest: Manifest) -> list[str]:
    """The external id of every node id, with its side, since a user and an item may share an id."""
    names = []
    for part in range(read_book(manifest).parts):
        users, items = load_ids(location(job), manifest, part, Path(job.output) / "cache")
        names += [f"user {u}" for u in users.to_pylist()] + [f"item {i}" for i in items.to_pylist()]
    return names


def rows_by_name(job: Job, manifest: Manifest) -> dict[str, tuple[object, ...]]:
    """Everything the partitions say of a node, in words that do not depend on the cut."""
    names, result = names_by_node(job, manifest), {}
    for data, first in zip(load_all(job, manifest), read_book(manifest).bounds, strict=False):
        for row in range(data.users + data.items):
            edges = slice(data.indptr[row], data.indptr[row + 1])
            held_out: list[list[str]] = []
            for indptr, items in data.held_out.values():
                mine = items[indptr[row] : indptr[row + 1]] if row < data.users else items[:0]
                held_out.append(sorted(names[n] for n in mine))
            pairs = zip(data.neighbours[edges], data.weight[edges], strict=True)
            neighbours = sorted((names[n], float(w)) for n, w in pairs)
            rows = {m: array[row].tobytes() for m, array in data.propagated.items()}
            result[names[first + row]] = (neighbours, held_out, rows)
    return result


def dense_truth(x: np.ndarray, having: list[int], *, standardized: bool) -> np.ndarray:
    """[U + I, F + 1] by the reference's tower with identity weights, on [x, 1]."""
    adjacency = np.zeros((USERS, ITEMS))
    adjacency[tuple(np.transpose(training_pairs()))] = 1.0
    x = x.astype(np.float64)
    if standardized:
        x = (x - x.mean(0)) / x.std(0)
    extended = np.zeros((ITEMS, x.shape[1] + 1))
    extended[having] = np.concatenate([x, np.ones((len(x), 1))], 1)
    identity = np.eye(extended.shape[1])
    user, item = oracle.modality_tower(adjacency, extended, identity, np.zeros(len(identity)))
    item[COLD_ITEM] = extended[COLD_ITEM]
    return np.concatenate([user, item])
