"""Memory of one worker in training, by kind, in bytes; and what the whole run keeps in storage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmssl_dist.config.job import Job
from mmssl_dist.evaluation.evaluate import USERS_AT_ONCE
from mmssl_dist.evaluation.item_lengths import CHOOSING_USERS
from mmssl_dist.evaluation.propagation import CHUNK_EDGES, PIECE_ROWS
from mmssl_dist.evaluation.ranking import CHUNK_COLUMNS
from mmssl_dist.export.index import TRAINED_WITH, cell_count, kind_of
from mmssl_dist.losses.contrastive import rows_at_once
from mmssl_dist.planning.expected_batch import ExpectedBatch
from mmssl_dist.planning.sizes import Sizes, features_of, row_bytes
from mmssl_dist.planning.torch_build import has_cuda_build
from mmssl_dist.training.state import ROWS_AT_ONCE

_ID, _WEIGHT, _FLOAT = 8, 4, 4  # bytes of an int64, of an edge's weight, of a float32
EMPTY_WORKER = 720_000_000 + (285_000_000 if has_cuda_build() else 0)
"""Bytes of a worker that has taken steps on a graph of a few nodes, as measured: Python, torch, DGL, Numba,
DeepSpeed, Ray; and what the libraries of a CUDA build take even without a GPU."""
EMPTY_TASK = 360_000_000
"""The same of a task of `prepare`, which does not load torch."""
GPU_WORKER = 2_300_000_000
"""The same of a worker with a GPU, whose libraries take most of it; measured on an H100."""
# Bytes that the code holds at once, each counted there and confirmed by a record of a step's allocations.
_EDGE_BYTES = 2 * (_ID + _WEIGHT)  # of a block, which holds each edge by destination and by source
# Of a row that is compared: as gathered, at unit length, beside the others, its gradient.
_CONTRASTED_COPIES = 4
_RANKED_COPIES = 2  # of the rows of a pair and of a candidate: as picked, and at unit length
_PERTURBED_COPIES = 2  # of the same where they are perturbed: gradient and moved row
_SEED_COPIES = 5  # of a seed's row: final, partial sums, gradients; as many of each modality's
_CHUNK_EDGE_BYTES = 6 * _ID  # of an edge in exact propagation: sorted, made unique, and as a sparse matrix
_DRAW_BYTES = 5 * _ID  # of a number of an initial row, with temporaries
_COLUMN_BYTES = 4 * _ID  # of a candidate column of a ranked list
_MEASURED_BYTES = 15 * _ID  # of an entry of a list whose metrics are computed
# glibc keeps what was freed, and blocks of a step rarely fit where others' were: measured 1.6 to 2.0
_HEAP = 2


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker.

    Attributes:
        host: by kind, in the machine's memory. device: by kind, on the device.
        gpu: whether the device has a memory of its own; a CPU's is the machine's.
    """

    host: dict[str, int]
    device: dict[str, int]
    gpu: bool

    @property
    def of_machine(self) -> dict[str, int]:
        """By kind, in the machine's memory, which workers get a share of."""
        return self.host if self.gpu else {**self.host, **self.device}

    @property
    def of_gpu(self) -> dict[str, int]:
        """By kind, in a GPU's memory."""
        return self.device if self.gpu else {}

    @property
    def total(self) -> int:
        """Of the machine's memory."""
        return sum(self.of_machine.values())


def worker_memory(job: Job, sizes: Sizes, batch: ExpectedBatch, workers: int) -> Memory:
    """Peak of the fullest worker."""
    dimension, modalities = job.model.dimension, len(sizes.modalities)
    # The fullest worker decides whether a run fits, and edges are what partitions differ in most.
    share = max(1.0, sizes.unevenness) / workers
    nodes, items = sizes.num_nodes / workers, sizes.num_items / workers
    edges = 2 * sizes.interactions * share
    # row starts twice: DGL's count from the partition's first edge; a pair's place in the pass over all
    topology = 4 * _ID * nodes + (_ID + _WEIGHT) * (edges + sizes.held_out * share) + _ID * edges / 2
    if job.model.item_graph.weight > 0:
        topology += modalities * (2 * _ID * nodes + items * job.partition.item_neighbours * (_ID + _WEIGHT))
    features = nodes * _features_of(job, sizes)
    lists = nodes * job.model.modality_graph.size * (2 * _ID + _FLOAT) * modalities
    one_batch = batch.edges * _EDGE_BYTES + batch.rows * 3 * _ID
    # those sampled ahead, the one in use, and the temporaries of making one
    batches = (2 + job.training.prefetch) * one_batch
    step, start = _step(job, sizes, batch, workers), _start(job, nodes)
    checkpoint = _checkpoint(job, sizes, workers)
    largest = max(step, _validation(job, sizes, workers=workers, nodes=nodes, edges=edges))
    rows, gpu = nodes * dimension * _FLOAT, job.scaling.gpus_per_worker > 0
    host = {
        "worker": float(GPU_WORKER if gpu else EMPTY_WORKER),
        "topology": topology,
        "features": features,
        "batches": batches,
    }
    device = {"ID rows": rows, "optimizer": nodes * _moments(job) * _FLOAT}
    if lists:
        host["learned lists"] = lists
    # a step's temporaries are free when it ends, and what happens between steps takes their space
    if gpu and job.samples_on_device:
        similar = items * job.partition.item_neighbours * modalities if job.model.item_graph.weight > 0 else 0
        # ids of four bytes; the host keeps its lists, for the seeds
        device["sampler's lists"] = _ID * nodes * (1 + modalities) + 2 * _WEIGHT * (edges + similar)
        device |= {"step or validation": largest, "batches": batches}
        del host["batches"]
        batches = 0.0  # of the host
    elif gpu:
        device |= {"step or validation": largest, "batch": one_batch}
    if gpu:
        # rows are drawn, written and exported on the host; a step picks the features of its seeds there
        host["in transit"] = max(rows + start, checkpoint, batch.seeds * _features_of(job, sizes))
        host["gaps in the heap"] = (_HEAP - 1) * batches
    else:
        largest = max(largest, start, checkpoint)
        device["step or validation"] = largest
        host["gaps in the heap"] = max(0.0, _HEAP * (step + batches) - batches - largest)
    return Memory({k: round(v) for k, v in host.items()}, {k: round(v) for k, v in device.items()}, gpu)


def _moments(job: Job) -> int:
    """Numbers that the optimizer keeps of an ID row."""
    return job.model.dimension + (job.model.dimension if job.training.rows.second_moment == "element" else 1)


def _features_of(job: Job, sizes: Sizes) -> int:
    """Bytes of one node's features, of all modalities, as they are held."""
    # Models with feature columns hold the items' own, which are always float32.
    of_number = _FLOAT if job.model.feature_columns else row_bytes(job)
    return sum(width + 1 for width in features_of(job, sizes).values()) * of_number


def _step(job: Job, sizes: Sizes, batch: ExpectedBatch, workers: int) -> float:
    """The most that a step holds: in the contrastive term's gradient, or in the update of the ID rows."""
    row, modalities = job.model.dimension * _FLOAT, len(sizes.modalities)
    scores = batch.users * batch.candidates * _FLOAT
    wide = sum(width + 1 for width in features_of(job, sizes).values()) * _FLOAT
    if _features_of(job, sizes) < wide:
        wide += _features_of(job, sizes)  # as they are picked, and widened
    seeds = batch.seeds * (wide + _SEED_COPIES * (1 + modalities) * row)
    attention = 0.0
    if job.model.modality_graph.size:
        # rows of each modality, stacked, as queries and keys; of each head; their mean
        attention = batch.outer * row * (4 * modalities + job.model.heads + 3)
    away = 1 if workers > 1 else 0
    # the scores of generator and critic, real and fake; or the ranking loss's scores and rows, while what was
    # aggregated over the outermost set is still held
    critic = job.losses.adversarial.has_critic
    pair_scores = 0.0 if job.losses.ranking.loss == "bpr" else batch.pairs * batch.candidates * _FLOAT
    copies = _RANKED_COPIES + (_PERTURBED_COPIES if job.losses.adversarial.perturbs else 0)
    ranked = (2 * batch.pairs + batch.candidates) * row * copies
    losses = scores * (2 + 3 * modalities) if critic else pair_scores + ranked + 2 * batch.outer * row
    losses += _contrastive(job, batch, modalities, workers) + seeds + attention
    # the gradient of the rows, what is being added to it, and the gradient of the start rows that it is
    # spread from; everything else is freed by then
    gradients = row * (batch.rows * (2 + away) + batch.outer) + batch.seeds * wide
    gradients += scores * modalities if critic else 0.0
    return batch.rows * row * (1 + away) + max(losses, gradients)  # rows handed out and, from others, fetched


def _contrastive(job: Job, batch: ExpectedBatch, modalities: int, workers: int) -> float:
    """The rows that are compared, and a piece of their scores."""
    term = job.losses.contrastive
    if term.weight == 0:
        return 0.0
    kinds = {"lists": modalities + 1, "item_graph": 2, "modalities": modalities}[term.rows]
    rows = batch.candidates if term.rows == "modalities" else batch.users * workers  # of all workers
    at_once = rows_at_once(int(2 * rows), gpu=job.scaling.gpus_per_worker > 0)
    scores = 2 * rows * min(at_once, rows / workers) * _FLOAT
    return rows * kinds * job.model.dimension * _FLOAT * _CONTRASTED_COPIES + scores


def _start(job: Job, nodes: float) -> float:
    """Drawing the first ID rows."""
    return min(ROWS_AT_ONCE, nodes) * job.model.dimension * _DRAW_BYTES


def _validation(job: Job, sizes: Sizes, *, workers: int, nodes: float, edges: float) -> float:
    """Exact propagation holds every layer's rows and a chunk of fetched ones, then what a piece of the final
    rows is made of; ranking the lists and a score block."""
    row, evaluation, modalities = job.model.dimension * _FLOAT, job.evaluation, len(sizes.modalities)
    views = modalities if job.model.modality_graph.size else 0
    kept = 1 if job.model.item_graph.weight > 0 else 0
    held = kept + max(views + 1 if views else 0, job.model.layers + 1 + (1 if views else 0), 2 * kept)
    taken = min(CHUNK_EDGES, edges)
    copies = 2 if workers > 1 else 1  # those handed out and those fetched
    # distinct ones, of edges that end anywhere
    sources = -sizes.num_nodes * math.expm1(-taken / sizes.num_nodes)
    propagation = nodes * row * held + sources * row * copies + taken * _CHUNK_EDGE_BYTES
    layers = job.model.layers + (1 if views else 0)  # without views the start rows are the ID rows themselves
    # a piece's tower, its layers side by side, their mean
    combining = row * (
        nodes * (kept + layers + 1) + min(PIECE_ROWS, nodes) * (modalities + job.model.layers + 2)
    )
    users, items = sizes.num_users / workers, sizes.num_items / workers
    if evaluation.users != "all":
        # Drawn evenly over the workers, so each ranks for about its share.
        users = min(users, evaluation.users / workers)
    longest, block = max(evaluation.ks), min(evaluation.user_block, users)
    columns = min(evaluation.item_block, items)
    score = block * (columns * _FLOAT + min(columns, longest * CHUNK_COLUMNS) * _COLUMN_BYTES)
    ranking = (nodes + users + items) * row + users * longest * (_ID + _FLOAT)
    ranking += max(score, min(USERS_AT_ONCE, users) * longest * _MEASURED_BYTES)
    # The exponent of item lengths is chosen beside the rows of all layers, with items' rows scaled.
    chosen_by = min(users, CHOOSING_USERS)
    choosing = row * (nodes * (kept + layers + 1) + 2 * items + chosen_by) + chosen_by * longest * (
        _ID + _FLOAT
    )
    choosing += max(score, min(USERS_AT_ONCE, chosen_by) * longest * _MEASURED_BYTES)
    return max(propagation, combining, ranking, choosing if evaluation.length_exponent == "auto" else 0.0)


def _checkpoint(job: Job, sizes: Sizes, workers: int) -> float:
    """One partition's rows and moments on their way to a file."""
    return (
        sizes.num_nodes / max(job.partition.parts, workers) * (job.model.dimension + _moments(job)) * _FLOAT
    )


def index_memory(job: Job, sizes: Sizes) -> int:
    """Peak of the one task that indexes the items, of which it maps the rows from a file: the index with its
    copy of them, and the rows that its cells are learned from."""
    settings, items, row = job.export.index, sizes.num_items, job.model.dimension * _FLOAT
    kind = kind_of(items, settings)
    if kind == "ivf":
        return items * (row + _ID) + TRAINED_WITH * cell_count(items, settings) * row
    return items * (row + (settings.links * 2 * _FLOAT if kind == "hnsw" else 0))


def storage_bytes(job: Job, sizes: Sizes) -> dict[str, int]:
    """What each artifact keeps, uncompressed."""
    nodes, edges, row = sizes.num_nodes, 2 * sizes.interactions, job.model.dimension * _FLOAT
    width = sum(columns + 1 for columns in sizes.modalities.values())
    kept = sum(columns + 1 for columns in features_of(job, sizes).values())
    listed = job.export.k if job.export.recommendations != "none" else 0
    lists = sizes.num_listed * listed * (_ID + _FLOAT)
    similar = len(sizes.modalities) * sizes.num_items * job.partition.item_neighbours * (_ID + _WEIGHT)
    return {
        "dataset": (sizes.interactions + sizes.held_out) * 2 * _ID + sizes.num_items * width * _FLOAT,
        "partitions": edges * (_ID + _WEIGHT)
        + nodes * _ID
        + (nodes * row_bytes(job) + sizes.num_items * _FLOAT) * kept
        + similar,
        "checkpoints": (job.training.keep_checkpoints + 1) * nodes * (row + _moments(job) * _FLOAT),
        "export": nodes * 2 * row + lists,
    }
