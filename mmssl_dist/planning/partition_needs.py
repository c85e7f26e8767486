"""What the workers of ``partition`` need: memory of each by what takes it, bytes sent, and time by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmssl_dist.config.job import Job
from mmssl_dist.graph.cells import PROBED, number_of_cells
from mmssl_dist.graph.clusters import ROUNDS as CLUSTERING_ROUNDS
from mmssl_dist.graph.cut_method import chosen_method, metis_bytes
from mmssl_dist.graph.propagate import CHUNK_EDGES, COLUMNS
from mmssl_dist.graph.similar import EXACT, ROUND_BYTES
from mmssl_dist.graph.streaming import NODE_BYTES
from mmssl_dist.graph.streaming import ROUNDS as DEALING_ROUNDS
from mmssl_dist.graph.voting_side import SUB_ROUNDS
from mmssl_dist.planning.sizes import Sizes, features_of, row_bytes

_FLOAT, _ID = 4, 8
_EMPTY = 450_000_000  # of a worker that has nothing yet: Python, torch, Arrow, Ray
# Measured on jobs/million.yaml, with one worker and one core.
_EDGE_BYTES = 120  # of an interaction while lists are made and cut, as on 100 million of them
_MESSAGES = 250_000_000  # of a worker among several: what is on its way from and to others
_LISTED_BYTES = 32  # of an interaction whose lists, positions and routes are kept for propagation
_ITEM_BYTES = 1600  # of an item at home that is compared: cells it looks into, and their order
_EDGE_SECONDS = 9e-7  # of an interaction that is read, sorted, moved and written
_CUT_SECONDS = 1.5e-6  # of an interaction that is cut by the streaming partitioner
_METIS_SECONDS = 8e-6  # of an interaction that METIS cuts
_PROPAGATED_SECONDS = 1.2e-9  # of a column of a directed edge
_COMPARED_SECONDS = 3e-11  # of a multiplication and addition of two items' features
_MATRICES = 4  # sums of products: of a block, of all blocks, as they arrive, and as they are decomposed
_WRITTEN = 4e8  # bytes hashed and written in a second


@dataclass(frozen=True)
class PartitionNeeds:
    """What each of W workers needs.

    Attributes:
        workers: W.
        memory: bytes at the peak of its largest step, by what takes them.
        sent: bytes sent to others, by step.
        seconds: of each step, of one core and with the bandwidth assumed.
    """

    workers: int
    memory: Mapping[str, int]
    sent: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def peak(self) -> int:
        """Bytes of memory in all."""
        return sum(self.memory.values())


def partition_needs(job: Job, sizes: Sizes, workers: int, bandwidth: float) -> PartitionNeeds:
    """The needs of ``partition`` on so many workers.

    Args:
        bandwidth: bytes per second that a worker sends to others.
    """
    method = chosen_method(job.partition, sizes.num_nodes, sizes.interactions)
    sent = _sent(job, sizes, workers, method)
    seconds = {
        step: amount / workers + sent.get(step, 0.0) / bandwidth
        for step, amount in _core_seconds(job, sizes, method).items()
    }
    if method == "metis":
        seconds["cut"] = sizes.interactions * _METIS_SECONDS
    return PartitionNeeds(workers, _memory(job, sizes, workers, method), sent, seconds)


def least_partition_workers(job: Job, sizes: Sizes, limit: float) -> int | None:
    """The fewest workers of which each fits into ``limit`` bytes; None if METIS, which one worker holds, or
    what every worker holds is larger."""

    def fits(workers: int) -> bool:
        method = chosen_method(job.partition, sizes.num_nodes, sizes.interactions)
        return sum(_memory(job, sizes, workers, method).values()) <= limit

    high = 1
    # Memory falls with the number of workers, so doubling brackets the answer and halving finds it.
    while not fits(high):
        high *= 2
        # Beyond a node per worker nothing shrinks any more.
        if high > sizes.num_nodes:
            return None
    low = high // 2  # does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _memory(job: Job, sizes: Sizes, workers: int, method: str) -> dict[str, int]:
    edges, nodes, items = (
        -(-amount // workers) for amount in (sizes.interactions, sizes.num_nodes, sizes.num_items)
    )
    amounts = {"interactions": edges * _EDGE_BYTES}
    if method == "streaming":
        distinct_labels = min(sizes.interactions // workers, sizes.num_users) + min(edges, sizes.num_items)
        amounts["labels"] = NODE_BYTES * (nodes + distinct_labels)
    elif method == "metis":
        amounts["METIS"] = metis_bytes(sizes.num_nodes, sizes.interactions)
    steps = [amounts]
    for modality, width in sizes.modalities.items():
        kept = features_of(job, sizes)[modality]
        lists, rows = {"lists": edges * _LISTED_BYTES}, items * (kept + 1) * _FLOAT
        if kept < width:
            read = items * (width + 1) * _FLOAT
            steps.append({**lists, "features": read + rows, "directions": _MATRICES * width**2 * _ID})
        steps.append(
            {
                **lists,
                "features": 2 * rows,
                "propagated columns": (2 * CHUNK_EDGES + nodes) * COLUMNS * _FLOAT,
            }
        )
        if job.partition.item_neighbours:
            compared = items * (_ITEM_BYTES + job.partition.item_neighbours * _ID) + 4 * ROUND_BYTES
            steps.append({**lists, "features": rows, "item-item graph": compared})
    own = {"worker": _EMPTY, **({"messages": _MESSAGES} if workers > 1 else {})}
    return own | max(steps, key=lambda step: sum(step.values()))


def _core_seconds(job: Job, sizes: Sizes, method: str) -> dict[str, float]:
    """Of one core in all, by step."""
    features = features_of(job, sizes)
    columns = sum(width + 1 for width in features.values())
    cores = job.scaling.cpus_per_worker  # work in the steps whose kernels have threads
    nodes, items = sizes.num_nodes, sizes.num_items
    pairs = items * _compared(items) if job.partition.item_neighbours else 0.0
    written = (nodes * row_bytes(job) + items * _FLOAT) * columns + sizes.interactions * 2 * (_ID + _FLOAT)
    products = sum(
        width * (width + features[m]) for m, width in sizes.modalities.items() if features[m] < width
    )
    return {
        "cut": sizes.interactions * _CUT_SECONDS if method == "streaming" else 0.0,
        "lists": sizes.interactions * _EDGE_SECONDS,
        **({"directions": items * products * _COMPARED_SECONDS / cores} if products else {}),
        "item-item graph": pairs * columns * _COMPARED_SECONDS / cores,
        "propagation": 2 * sizes.interactions * columns * _PROPAGATED_SECONDS / cores,
        "writing": written / _WRITTEN,
    }


def _sent(job: Job, sizes: Sizes, workers: int, method: str) -> dict[str, float]:
    """Bytes that one worker sends, by step."""
    edges, away = sizes.interactions / workers, 1 - 1 / workers
    features = features_of(job, sizes)
    columns = sum(width + 1 for width in features.values())
    products = sum(width**2 for m, width in sizes.modalities.items() if features[m] < width)
    users, items = min(edges, sizes.num_users), min(edges, sizes.num_items)
    # in each sub-round of clustering the room of labels, what is wanted and taken of them, and shares
    cutting = CLUSTERING_ROUNDS * SUB_ROUNDS * 4 * _ID * items
    cutting += (CLUSTERING_ROUNDS + DEALING_ROUNDS) * _ID * (users + items)
    looks = workers if sizes.num_items <= EXACT else PROBED + 1  # rows sent of each item
    compared = sizes.num_items / workers * looks * columns * _FLOAT
    return {
        "cut": cutting * away if method == "streaming" else edges * _FLOAT,
        "lists": 5 * edges * _ID * away,
        **({"directions": 2 * products * _ID * away} if products else {}),
        "item-item graph": compared * away if job.partition.item_neighbours else 0.0,
        "propagation": 2 * edges * sizes.cut_between(workers) * columns * _FLOAT,
        "writing": sizes.num_items / workers * columns * _FLOAT * away,
    }


def _compared(items: int) -> float:
    """How many others an item is compared with."""
    return items if items <= EXACT else min(1.0, PROBED / number_of_cells(items)) * items
