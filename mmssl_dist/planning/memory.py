"""Memory of one worker in training, by kind, in bytes; and what the whole run keeps in storage."""

from __future__ import annotations

from dataclasses import dataclass

from mmssl_dist.config.tree import Job
from mmssl_dist.graph.method import chosen_method, metis_bytes
from mmssl_dist.planning.batch import Expected
from mmssl_dist.planning.sizes import Sizes

_ID, _WEIGHT, _FLOAT = 8, 4, 4  # bytes of an int64, of an edge's weight, of a float32
EMPTY_WORKER = 560_000_000
"""Bytes of a worker that holds next to nothing, as seen: Python, torch, DGL, DeepSpeed, Ray, a step's temporaries."""
_CHUNK_EDGES = 1 << 21  # evaluation.propagation takes so many edges at once
_ROW_COPIES = 8  # of an ID row in a step: handed out, fetched, both gradients, Adam's temporaries, layers
_EDGE_BYTES = 2 * (_ID + _WEIGHT)  # of a block, which holds each edge by destination and by source


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker.

    Attributes:
        host: by kind, in host memory. device: by kind, on the device; on a CPU both are the same memory.
    """

    host: dict[str, int]
    device: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.host.values()) + sum(self.device.values())


def worker_memory(job: Job, sizes: Sizes, batch: Expected, workers: int) -> Memory:
    """Peak of the fullest worker."""
    dimension, modalities = job.model.dimension, len(sizes.modalities)
    share = max(1.0, sizes.unevenness) / workers
    nodes, items = sizes.num_nodes / workers, sizes.num_items / workers
    edges = 2 * sizes.interactions * share
    # row starts twice: DGL's count from the partition's first edge
    topology = 2 * _ID * nodes + (_ID + _WEIGHT) * (edges + sizes.held_out * share) + 2 * _ID * nodes
    if job.model.item_graph.weight > 0:
        topology += modalities * (2 * _ID * nodes + items * job.partition.item_neighbours * (_ID + _WEIGHT))
    features = nodes * _FLOAT * sum(width + 1 for width in sizes.modalities.values())
    moments = dimension + (dimension if job.training.rows.second_moment == "element" else 1)
    lists = nodes * job.model.modality_graph.size * (2 * _ID + _FLOAT) * modalities
    batches = (1 + job.training.prefetch) * (batch.edges * _EDGE_BYTES + batch.rows * 3 * _ID)
    scores = batch.users * batch.candidates * _FLOAT * (2 + 3 * modalities)  # with the critic's, real and fake
    step = batch.rows * dimension * _FLOAT * _ROW_COPIES + scores
    host = {"worker": float(EMPTY_WORKER), "topology": topology, "features": features, "batches": batches}
    device = {"ID rows": nodes * dimension * _FLOAT, "optimizer": nodes * moments * _FLOAT}
    if lists:
        host["learned lists"] = lists
    device["step or validation"] = max(step, _validation(job, sizes, nodes, edges))
    return Memory({k: round(v) for k, v in host.items()}, {k: round(v) for k, v in device.items()})


def _validation(job: Job, sizes: Sizes, nodes: float, edges: float) -> float:
    """Exact propagation holds every layer, the towers and a chunk of fetched rows; ranking one block of scores."""
    row = job.model.dimension * _FLOAT
    held = job.model.layers + 2 + len(sizes.modalities) + (2 if job.model.item_graph.weight > 0 else 0)
    chunk = min(_CHUNK_EDGES, edges, sizes.num_nodes) * row + min(_CHUNK_EDGES, edges) * (_ID + _EDGE_BYTES)
    score = min(job.evaluation.user_block, sizes.num_users) * min(job.evaluation.item_block, sizes.num_items) * _FLOAT
    return nodes * row * held + max(chunk, score)


def partition_memory(job: Job, sizes: Sizes) -> dict[str, int]:
    """Peak of the one task that cuts the graph and propagates features, by what takes it."""
    edges, nodes = 2 * sizes.interactions, sizes.num_nodes
    graph = 3 * edges * _ID
    widest = max(sizes.modalities.values(), default=0) + 1
    rows = nodes * widest * _FLOAT
    found = {"graph": graph, "features of one modality": rows}
    if job.partition.item_neighbours:
        found["item-item graph"] = 3 * sizes.num_items * widest * _FLOAT
    if chosen_method(job.partition, nodes, sizes.interactions) == "metis" and job.partition.parts > 1:
        found["METIS"] = metis_bytes(nodes, sizes.interactions)
    return found


def storage_bytes(job: Job, sizes: Sizes) -> dict[str, int]:
    """What each artifact keeps, uncompressed."""
    nodes, edges, row = sizes.num_nodes, 2 * sizes.interactions, job.model.dimension * _FLOAT
    width = sum(each + 1 for each in sizes.modalities.values())
    similar = len(sizes.modalities) * sizes.num_items * job.partition.item_neighbours * (_ID + _WEIGHT)
    moments = row + (row if job.training.rows.second_moment == "element" else _FLOAT)
    return {
        "dataset": (sizes.interactions + sizes.held_out) * 2 * _ID + sizes.num_items * width * _FLOAT,
        "partitions": edges * (_ID + _WEIGHT) + nodes * _ID + (nodes + sizes.num_items) * width * _FLOAT + similar,
        "checkpoints": (job.training.keep_checkpoints + 1) * nodes * (row + moments),
        "export": nodes * 2 * row + sizes.num_users * job.export.k * (_ID + _FLOAT),
    }  # fmt: skip
