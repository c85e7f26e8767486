"""The plan of a job: what a run takes with the workers it asks for, whether that fits, and what would fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.errors import InputError
from mmssl_dist.graph.cut_method import chosen_method
from mmssl_dist.planning.breaks import GIGA, breaks_of, planned_partition_workers
from mmssl_dist.planning.expected_batch import ExpectedBatch, expected_batch
from mmssl_dist.planning.memory import Memory, index_memory, storage_bytes, worker_memory
from mmssl_dist.planning.partition_needs import PartitionNeeds, least_partition_workers, partition_needs
from mmssl_dist.planning.sizes import Sizes
from mmssl_dist.planning.stage_needs import (
    TRAFFIC,
    StageNeeds,
    TrainingTime,
    stage_needs,
)
from mmssl_dist.planning.traffic import local_share, sent_bytes

_MOST_WORKERS = 1 << 20


@dataclass(frozen=True)
class Assumptions:
    """What a plan assumes of the machines.

    Attributes:
        memory: bytes one worker may take; None if not given.
        bandwidth: bytes per second that a worker sends to others.
        price: of one worker for an hour, in any currency; None leaves the cost out.
    """

    memory: float | None = None
    bandwidth: float = 1e9
    price: float | None = None


@dataclass(frozen=True)
class Speed:
    """Seconds of one worker's step on ``device``: fixed + per_row x ID rows. They include sampling, as for a
    worker with one core; with more cores it runs beside the step."""

    fixed: float
    per_row: float
    device: str

    def seconds(self, rows: float) -> float:
        """Of a step that fetches so many ID rows."""
        return self.fixed + self.per_row * rows


@dataclass(frozen=True)
class Time:
    """Seconds of a step and of an epoch, steps of an epoch, and seconds of all epochs of the job."""

    step: float
    epoch: float
    steps: int
    training: float


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What depends on the number of workers.

    Attributes:
        memory: of each worker.
        batch: of each worker and step.
        sent: bytes each worker sends in a step.
        local: share of the fetched rows that are the worker's own.
        time: None without a calibration.
        cost: of all epochs; None without time or price.
    """

    memory: Memory
    batch: ExpectedBatch
    sent: float
    local: float
    time: Time | None
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class ResourcePlan:
    """The resources that a job requires.

    Attributes:
        workers: W.
        parts: P.
        needs: requirements with W workers.
        method: how the graph is or will be cut.
        partition: needs of the workers that cut the graph and propagate features.
        least_partition_workers: the fewest of them that fit the given memory; None if no number does or no
            memory is given.
        index: memory of the task that indexes the items.
        stages: memory, time and cores of every stage.
        cost: of the whole run; None without a price.
        storage: bytes by artifact.
        least_workers: the smallest W that fits the given memory; None if none does or no memory is given.
        least_parts: P for ``least_workers``.
        fitting: requirements with ``least_workers``.
        breaks: what would not work, in the order in which it would fail.
    """

    sizes: Sizes
    workers: int
    parts: int
    needs: Requirements
    method: str
    partition: PartitionNeeds
    least_partition_workers: int | None
    index: int
    stages: tuple[StageNeeds, ...]
    cost: float | None
    storage: Mapping[str, int]
    least_workers: int | None
    least_parts: int | None
    fitting: Requirements | None
    breaks: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """Everything as plain values, for JSON."""
        own = {
            name: value for name, value in asdict(self).items() if name not in ("sizes", "needs", "fitting")
        }
        fitting = None if self.fitting is None else _needs_facts(self.fitting)
        return {
            "users": self.sizes.num_users,
            "items": self.sizes.num_items,
            "interactions": self.sizes.interactions,
            "modalities": dict(self.sizes.modalities),
            "source": self.sizes.source,
            **_needs_facts(self.needs),
            **own,
            "fitting": fitting,
        }

    @property
    def memory(self) -> Memory:
        """Of each of the W workers."""
        return self.needs.memory

    @property
    def sent(self) -> float:
        """Bytes that each of the W workers sends in a step."""
        return self.needs.sent


def plan_resources(
    job: Job, sizes: Sizes, assumptions: Assumptions, speed: Speed | None = None
) -> ResourcePlan:
    """The plan for ``job.scaling``'s fewest workers.

    Args:
        speed: of a step, see ``calibrate``; None leaves times out.
    """
    workers = job.scaling.fewest
    needs = _requirements(job, sizes, assumptions, workers=workers, speed=speed)
    least = _least_workers(job, sizes, assumptions.memory)
    fitting = None if least is None else _requirements(job, sizes, assumptions, workers=least, speed=speed)
    partition = partition_needs(job, sizes, planned_partition_workers(job), assumptions.bandwidth)
    stages = stage_needs(
        job,
        sizes,
        partition,
        train_memory=needs.memory.total,
        training=_training_time(job, sizes, needs, assumptions),
    )
    return ResourcePlan(
        sizes=sizes,
        workers=workers,
        parts=job.partition.parts,
        needs=needs,
        method=sizes.method or chosen_method(job.partition, sizes.num_nodes, sizes.interactions),
        partition=partition,
        least_partition_workers=(
            None if assumptions.memory is None else least_partition_workers(job, sizes, assumptions.memory)
        ),
        index=index_memory(job, sizes),
        stages=stages,
        cost=_cost(job, stages, assumptions.price),
        storage=storage_bytes(job, sizes),
        least_workers=least,
        # A few parts for each worker, so that later runs can take other numbers of workers without a new cut.
        least_parts=None if least is None else max(least, min(job.partition.parts, 4 * least)),
        fitting=fitting,
        breaks=()
        if assumptions.memory is None
        else tuple(
            breaks_of(job, sizes, assumptions.memory, memory=needs.memory, least=least, stages=stages)
        ),
    )


def _requirements(
    job: Job, sizes: Sizes, assumptions: Assumptions, *, workers: int, speed: Speed | None
) -> Requirements:
    batch = expected_batch(job, sizes, workers)
    sent = sent_bytes(job, sizes, batch, workers)
    time = (
        None if speed is None else _time(job, sizes, speed.seconds(batch.rows) + sent / assumptions.bandwidth)
    )
    cost = (
        None
        if time is None or assumptions.price is None
        else assumptions.price * workers * time.training / 3600
    )
    return Requirements(
        memory=worker_memory(job, sizes, batch, workers),
        batch=batch,
        sent=sent,
        local=local_share(batch),
        time=time,
        cost=cost,
    )


def _needs_facts(needs: Requirements) -> dict[str, Any]:
    facts = asdict(needs)
    facts["memory"] |= {"total": needs.memory.total, "gpu_total": sum(needs.memory.of_gpu.values())}
    return facts


def require_room(plan: ResourcePlan, limit: float, setting: str) -> None:
    """Refuse to train what will not fit.

    Args:
        limit: bytes one worker may take.
        setting: where that comes from.

    Raises:
        InputError: the plan's memory is larger.
    """
    if plan.memory.total <= limit:
        return
    kinds = plan.memory.of_machine
    largest = ", ".join(
        f"{name} {kinds[name] / GIGA:.1f}" for name in sorted(kinds, key=kinds.__getitem__)[:-4:-1]
    )
    remedy = (
        f"scaling.workers: {plan.least_workers} would fit"
        if plan.least_workers
        else "More workers do not help"
    )
    raise InputError(
        setting,
        f"{limit / GIGA:.1f} GB per worker",
        f"the plan for {plan.workers} worker(s) needs {plan.memory.total / GIGA:.1f} GB each (most "
        f"of it: {largest})",
        f"{remedy}; `mmssl-dist plan` shows all. To train anyway, set scaling.memory_gb to "
        "the memory of a worker.",
    )


def _time(job: Job, sizes: Sizes, step: float) -> Time:
    chosen = job.training.steps_per_epoch
    steps = -(-sizes.interactions // job.training.batch_size) if chosen == "all" else chosen
    return Time(step, step * steps, steps, step * steps * job.training.epochs)


def _training_time(job: Job, sizes: Sizes, needs: Requirements, assumptions: Assumptions) -> TrainingTime:
    """Of all epochs: as calibrated, or what is sent alone."""
    if needs.time is not None:
        return TrainingTime(needs.time.training, "steps timed here")
    return TrainingTime(_time(job, sizes, needs.sent / assumptions.bandwidth).training, TRAFFIC)


def _cost(job: Job, stages: tuple[StageNeeds, ...], price: float | None) -> float | None:
    """Every stage on the machines of training: for its seconds, as many as its processes need."""
    if price is None:
        return None
    return sum(price * machines_of(job, stage) * stage.seconds / 3600 for stage in stages)


def machines_of(job: Job, stage: StageNeeds) -> int:
    """Machines of a training worker's size that a stage's processes fill."""
    return -(-stage.workers * stage.cores // job.scaling.cpus_per_worker)


def _least_workers(job: Job, sizes: Sizes, memory: float | None) -> int | None:
    """Bisection: memory falls with W, down to what every worker holds."""

    def fits(workers: int) -> bool:
        return worker_memory(job, sizes, expected_batch(job, sizes, workers), workers).total <= (memory or 0)

    # A worker without a node would have nothing to hold, so more of them free no memory.
    most = min(_MOST_WORKERS, sizes.num_nodes)
    if memory is None or not fits(most):
        return None
    low, high = 0, most  # low does not fit, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
