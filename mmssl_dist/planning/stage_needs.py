"""What every stage of a run takes with the workers asked for: memory of each, time, and what that is from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmssl_dist.config.job import Job
from mmssl_dist.config.training_sections import LENGTH_EXPONENTS
from mmssl_dist.data.bucket_count import needed_buckets
from mmssl_dist.evaluation.item_lengths import CHOOSING_USERS
from mmssl_dist.export.index import cell_count, kind_of
from mmssl_dist.planning.memory import EMPTY_TASK, EMPTY_WORKER, index_memory
from mmssl_dist.planning.partition_needs import PartitionNeeds
from mmssl_dist.planning.sizes import Sizes

_FLOAT, _ID, _ID_TEXT = 4, 8, 44  # bytes; of an id as a text of 36 letters with its offset
MEASURED = "measured costs"
TRAFFIC = "traffic alone"
ASSUMED = "an assumed rate of the GPU"
# Measured on cores of one machine, on 20 million interactions (docs/performance.md) and on up to a million
# items (docs/results/index_lists.json); every other size is extrapolated.
_START = 8.0  # seconds of Ray and of a stage's processes
_PREPARED = 2.2e-6  # seconds of a core for an interaction
_BUCKET_BYTES = 400  # of an interaction in the bucket a task works on: what all processes' peak allows
IN_A_BUCKET = 50_000_000  # interactions; 60M UUIDs as text overflow Arrow's 32-bit offsets
_RAW_BYTES = 16  # of an interaction, as text
_RANKED = 3e10  # multiplications and additions of one core in a second of exact ranking
_RANKED_BY_GPU = 1e12  # of a GPU; not measured
_SELECTED = 1.7e-6  # seconds of a core to keep one entry of a list through a block of items
_LIST_ENTRY = 1e-7  # seconds of a core to write one
_PROPAGATED = 1.2e-9  # seconds of a column of a directed edge
_MILLION, _WIDTH = 1e6, 64  # items and width that the two below were measured with
_INDEXED = 230.0  # seconds of a core; grows as items times cells, which are as the root of the items
_LISTED = 2.1e-3  # seconds of a core for a user's list; grows as the cells' size, the root of the items
_WRITTEN = 4e8  # bytes hashed and written in a second
_PART_USERS = 4096  # users of one search


@dataclass(frozen=True, kw_only=True)
class StageNeeds:
    """What a stage takes.

    Attributes:
        stage: its name.
        workers: processes side by side.
        cores: of each.
        memory: bytes of each.
        seconds: 0 where nothing is known.
        basis: what the time is from.
    """

    stage: str
    workers: int
    cores: int
    memory: int
    seconds: float
    basis: str


@dataclass(frozen=True)
class TrainingTime:
    """Seconds of all epochs, and what they are from."""

    seconds: float
    basis: str


def stage_needs(
    job: Job, sizes: Sizes, partition: PartitionNeeds, *, train_memory: int, training: TrainingTime
) -> tuple[StageNeeds, ...]:
    """Of every stage, in their order, with ``job.scaling``'s fewest workers.

    Args:
        train_memory: bytes of each worker of training, which evaluate and export take at most.
    """
    workers, cores = job.scaling.fewest, job.scaling.cpus_per_worker
    all_cores = workers * cores
    validations = -(-job.training.epochs // job.evaluation.every_epochs)
    # Once for each exponent of item lengths, and for the dot product.
    users = min(_evaluated(job, sizes, splits=1), CHOOSING_USERS)
    tried = len(LENGTH_EXPONENTS) + 1 if job.evaluation.length_exponent == "auto" else 0
    choosing = tried * ranking_seconds(job, users, sizes.num_items)
    passes = 1 + (len(sizes.modalities) if job.evaluation.contributions else 0)
    ranked_by = ASSUMED if job.scaling.gpus_per_worker else MEASURED
    propagation = 2 * sizes.interactions * job.model.layers * job.model.dimension * _PROPAGATED / all_cores
    exact = job.export.recommendations == "exact"
    lists = exact_lists_seconds(job, sizes) if exact else 0.0
    rows = sizes.num_nodes * job.model.dimension * _FLOAT
    write = propagation + lists + 2 * rows / workers / _WRITTEN
    cut = sum(partition.seconds.values())
    index = EMPTY_WORKER + index_memory(job, sizes)

    def for_splits(splits: int) -> float:
        return ranking_seconds(job, _evaluated(job, sizes, splits), sizes.num_items) + propagation

    def of_workers(stage: str, seconds: float, basis: str) -> StageNeeds:
        return StageNeeds(
            stage=stage, workers=workers, cores=cores, memory=train_memory, seconds=seconds, basis=basis
        )

    def of_tasks(stage: str, at_once: int, memory: int, seconds: float) -> StageNeeds:
        return StageNeeds(
            stage=stage, workers=at_once, cores=1, memory=memory, seconds=seconds, basis=MEASURED
        )

    stages = [
        of_tasks("prepare", all_cores, prepare_memory(job, sizes), _prepare_seconds(sizes, all_cores)),
        StageNeeds(
            stage="partition",
            workers=partition.workers,
            cores=cores,
            memory=partition.peak,
            seconds=cut,
            basis=MEASURED,
        ),
        of_workers("train", training.seconds, training.basis),
        of_workers("its validations", validations * for_splits(splits=1), ranked_by),
        of_workers("evaluate", _START + choosing + passes * for_splits(splits=2), ranked_by),
        of_workers("export", _START + write, ranked_by),
        of_tasks("its index", 1, index, index_seconds(job, sizes)),
    ]
    if job.export.recommendations == "index":
        at_once = min(all_cores, job.partition.parts)
        of_list = list_seconds(job, sizes.num_items) + job.export.k * _LIST_ENTRY
        seconds = sizes.num_listed * of_list / at_once
        stages.append(of_tasks("its lists", at_once, lists_memory(job, sizes), seconds))
    return tuple(stages)


def prepare_memory(job: Job, sizes: Sizes) -> int:
    """Bytes of the task of one bucket."""
    columns = sum(sizes.modalities.values())
    features = sizes.num_items * columns * _FLOAT
    amount = (sizes.interactions + sizes.held_out) * _BUCKET_BYTES + 2 * features
    return EMPTY_TASK + amount // planned_buckets(job, sizes)


def planned_buckets(job: Job, sizes: Sizes) -> int:
    """``data.buckets``; where it is auto, about what the files will ask for."""
    if job.data.buckets != "auto":
        return job.data.buckets
    interactions = sizes.interactions + sizes.held_out
    features = sizes.num_items * sum(sizes.modalities.values()) * _FLOAT
    return max(-(-interactions // IN_A_BUCKET), needed_buckets(interactions * _RAW_BYTES, features))


def ranking_seconds(job: Job, users: float, items: int) -> float:
    """Of ranking every item for ``users`` users, on all workers."""
    products = job.model.dimension * users * items * 2.0
    if job.scaling.gpus_per_worker:
        return products / (_RANKED_BY_GPU * job.scaling.fewest)
    return products / (_RANKED * job.scaling.fewest * job.scaling.cpus_per_worker)


def exact_lists_seconds(job: Job, sizes: Sizes) -> float:
    """Of the lists of an export that ranks every item, on all workers: they grow with ``export.k`` too."""
    cores = job.scaling.fewest * job.scaling.cpus_per_worker
    blocks = -(-sizes.num_items // job.evaluation.item_block)
    # What choosing takes of a GPU is not known; it is within the assumed rate of ranking there.
    entry = _LIST_ENTRY + (0.0 if job.scaling.gpus_per_worker else blocks * _SELECTED)
    length = min(job.export.k, sizes.num_items)
    return ranking_seconds(job, sizes.num_listed, sizes.num_items) + sizes.num_listed * length * entry / cores


def index_seconds(job: Job, sizes: Sizes) -> float:
    """Of the one task that builds the index, on one core."""
    if kind_of(sizes.num_items, job.export.index) == "flat":
        return _START + index_memory(job, sizes) / _WRITTEN
    scale = job.model.dimension / _WIDTH
    cells = cell_count(sizes.num_items, job.export.index) / (4 * math.sqrt(sizes.num_items))
    return _START + _INDEXED * math.pow(sizes.num_items / _MILLION, 1.5) * scale * cells


def list_seconds(job: Job, items: int) -> float:
    """Of a core for one user's list through the index."""
    if kind_of(items, job.export.index) == "flat":
        return job.model.dimension * items * 2.0 / _RANKED
    return _LISTED * math.sqrt(items / _MILLION) * job.model.dimension / _WIDTH


def lists_memory(job: Job, sizes: Sizes) -> int:
    """Bytes of the task that makes one partition's lists: index, items' ids, that partition's users."""
    users, listed = (count / job.partition.parts for count in (sizes.num_users, sizes.num_listed))
    row = job.model.dimension * _FLOAT
    ids = (sizes.num_items + users) * _ID_TEXT
    block = _PART_USERS * (4 * job.export.k + row) * _ID
    return EMPTY_WORKER + index_memory(job, sizes) + round(ids + block + listed * job.export.k * _ID)


def _prepare_seconds(sizes: Sizes, cores: int) -> float:
    return _START + (sizes.interactions + sizes.held_out) * _PREPARED / cores


def _evaluated(job: Job, sizes: Sizes, splits: int) -> float:
    """Users ranked for, of so many held-out sets at once: each draws users of its own."""
    if job.evaluation.users == "all":
        return float(min(sizes.num_users, max(sizes.held_out, 1)))
    return float(min(sizes.num_users, splits * job.evaluation.users))
