"""What would not work of a job, and the setting that fixes it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mmssl_dist.config.job import Job
from mmssl_dist.export.index import cell_count
from mmssl_dist.planning.memory import EMPTY_TASK, EMPTY_WORKER, Memory
from mmssl_dist.planning.partition_needs import least_partition_workers, partition_needs
from mmssl_dist.planning.sizes import Sizes
from mmssl_dist.planning.stage_needs import (
    IN_A_BUCKET,
    StageNeeds,
    exact_lists_seconds,
    planned_buckets,
    prepare_memory,
)

GIGA = 1e9
ACCELERATORS = {
    **{"T4": 16, "V100": 16, "L4": 24, "A10G": 24, "A100-40G": 40, "A100": 40, "L40S": 48},
    **{"A100-80G": 80, "H100": 80, "H200": 141, "B200": 180},
}
"""GB of a GPU's memory, by Ray's name, smallest first; of A100 and V100 the smaller of two."""
_DAY = 86_400.0


def breaks_of(
    job: Job,
    sizes: Sizes,
    limit: float,
    *,
    memory: Memory,
    least: int | None,
    stages: tuple[StageNeeds, ...],
) -> Iterator[str]:
    """What would not work, in the order in which it would fail, each with the setting that fixes it.

    Args:
        limit: bytes one worker may take.
        least: the fewest workers of training that fit.
    """
    buckets, given = -(-(sizes.interactions + sizes.held_out) // IN_A_BUCKET), planned_buckets(job, sizes)
    if buckets > given:
        yield (
            f"prepare: {sizes.interactions + sizes.held_out:,} interactions in data.buckets "
            f"{given}; set it to {buckets} or more"
        )
    elif (tasks := prepare_memory(job, sizes) * job.scaling.cpus_per_worker) > limit:
        cores = job.scaling.cpus_per_worker
        # Of buckets without a row: more of them do not change it.
        processes = cores * EMPTY_TASK
        if processes < limit:
            most = math.ceil(given * (tasks - processes) / (limit - processes))
            advice = f"set data.buckets to {most} or more"
        else:
            advice = "lower scaling.cpus_per_worker"
        yield f"prepare: {tasks / GIGA:,.1f} GB for the tasks of {cores} core(s); {advice}"
    yield from _partition_breaks(job, sizes, limit)
    if memory.total > limit:
        advice = (
            f"take {least} workers" if least else "no number of workers is enough: lower batch_size or fanout"
        )
        yield f"train: {memory.total / GIGA:,.1f} GB per worker; {advice}"
    if least is not None and least > job.partition.parts:
        yield (
            f"partition.parts: {job.partition.parts} parts cannot be shared by {least} workers; cut into more"
        )
    yield from _gpu_breaks(job, memory)
    yield from _late_breaks(job, sizes, stages, limit)


def _partition_breaks(job: Job, sizes: Sizes, limit: float) -> Iterator[str]:
    workers = planned_partition_workers(job)
    needs = partition_needs(job, sizes, workers, 1.0)
    if needs.peak <= limit:
        return
    least = least_partition_workers(job, sizes, limit)
    if least is not None:
        advice = f"set partition.workers to {least}"
        if least > job.partition.parts:
            advice += f", and partition.parts to as many or more (now {job.partition.parts})"
    elif "METIS" in needs.memory:
        advice = "METIS runs on one of them. Set partition.method to streaming"
    else:
        advice = "no number of workers is enough"
    yield f"partition: {needs.peak / GIGA:,.1f} GB for each of {workers} worker(s); {advice}"


def _gpu_breaks(job: Job, memory: Memory) -> Iterator[str]:
    """A GPU's memory against that of ``scaling.accelerator``."""
    needed, accelerator = sum(memory.of_gpu.values()), job.scaling.accelerator
    if not needed or accelerator is None:
        return
    if accelerator not in ACCELERATORS:
        yield (
            f"scaling.accelerator: the memory of {accelerator} is not known here; compare it with "
            f"{needed / GIGA:,.1f} GB"
        )
    elif needed > ACCELERATORS[accelerator] * GIGA:
        larger = [name for name, size in ACCELERATORS.items() if size * GIGA >= needed]
        advice = f", or set scaling.accelerator to {larger[0]}" if larger else ""
        yield (
            f"train: {needed / GIGA:,.1f} GB of GPU memory per worker; {accelerator} has "
            f"{ACCELERATORS[accelerator]}. Raise scaling.workers, lower training.batch_size{advice}"
        )


def _late_breaks(job: Job, sizes: Sizes, stages: tuple[StageNeeds, ...], limit: float) -> Iterator[str]:
    """What would break after training."""
    by_name = {stage.stage: stage for stage in stages}
    workers = job.scaling.fewest
    days = exact_lists_seconds(job, sizes) / _DAY
    ranking = f"ranking {sizes.num_items:,} items for"
    validated = by_name["its validations"].seconds / _DAY
    if validated > 1:
        yield (
            f"evaluation.users: {ranking} all held-out users takes {workers} worker(s) some "
            f"{validated:,.0f} days in all validations; set it to a number, such as 100000"
        )
    if job.export.recommendations == "exact" and days > 1:
        yield (
            f"export.recommendations: {ranking} each of {sizes.num_listed:,} users takes {workers} worker(s) "
            f"some {days:,.0f} days; set it to index, or to none and use `recommend` for the users you need"
        )
    if "its lists" in by_name:
        lists = by_name["its lists"]
        if lists.seconds > _DAY:
            yield (
                f"export: lists for {sizes.num_listed:,} users take {lists.workers} core(s) some "
                f"{lists.seconds / _DAY:,.1f} days; name fewer with export.users, or raise scaling.workers"
            )
        shared = by_name["its index"].memory - EMPTY_WORKER  # mapped from a file, once for a machine
        on_machine = -(-lists.workers // workers)
        together = shared + on_machine * (lists.memory - shared)
        if together > limit:
            yield (
                f"export: {together / GIGA:,.1f} GB for the lists of {on_machine} partition(s) at once; "
                "raise partition.parts, or set export.recommendations to none"
            )
    index = by_name["its index"]
    if index.seconds > _DAY:
        cells = max(1, int(cell_count(sizes.num_items, job.export.index) * _DAY / index.seconds))
        yield (
            f"export: one task builds the index in some {index.seconds / _DAY:,.1f} days; set "
            f"export.index.cells to {cells} or fewer"
        )
    if index.memory > limit:
        yield (
            f"export: one task indexes all items, {index.memory / GIGA:,.0f} GB; lower model.dimension, or "
            "give that task a machine of this size"
        )


def planned_partition_workers(job: Job) -> int:
    """``partition.workers``; where that is auto, what a cluster takes."""
    return job.scaling.fewest if job.partition.workers == "auto" else job.partition.workers
