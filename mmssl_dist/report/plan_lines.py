"""A plan as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmssl_dist.planning.resource_plan import Assumptions, Requirements, ResourcePlan, Speed
from mmssl_dist.report.progress import count, duration, percent, size

_WIDTH = 26
_METHODS = {"metis": "METIS", "streaming": "the streaming partitioner", "random": "a random cut"}


def plan_lines(plan: ResourcePlan, assumptions: Assumptions, speed: Speed | None) -> list[str]:
    """Everything about a plan, for a terminal."""
    return list(_lines(plan, assumptions, speed))


def _lines(plan: ResourcePlan, assumptions: Assumptions, speed: Speed | None) -> Iterator[str]:
    sizes, needs = plan.sizes, plan.needs
    yield (
        f"{count(sizes.num_users)} users, {count(sizes.num_items)} items, "
        f"{count(sizes.interactions)} training "
        f"interactions ({sizes.source})"
    )
    state = "cut" if sizes.method else "to be cut"
    yield f"{plan.workers} worker(s), {plan.parts} partitions, {state} by {_METHODS[plan.method]}"
    yield ""
    yield "memory per worker"
    yield from _table(plan.memory.of_machine)
    if plan.memory.gpu:
        yield "memory of its GPU"
        yield from _table(plan.memory.of_gpu)
    yield f"memory of each of {count(plan.partition.workers)} worker(s) that partition"
    yield from _table(plan.partition.memory)
    yield "time of partition's steps, estimated from measured costs"
    yield from (_row(step, duration(time)) for step, time in plan.partition.seconds.items() if time)
    yield ""
    yield from _stages(plan, assumptions.price)
    yield "storage"
    yield from _table(plan.storage)
    yield "each worker, each step"
    yield _row("training pairs", count(round(needs.batch.pairs)))
    away = count(round(needs.batch.away_rows))
    yield _row(
        "ID rows", f"{count(round(needs.batch.rows))}, {away} from others ({percent(needs.local)} its own)"
    )
    yield _row("sampled edges", count(round(needs.batch.edges)))
    yield _row(
        "sent to others",
        f"{size(needs.sent)}, {percent(sizes.cut_between(plan.workers))} of edges cut"
        f"{'' if sizes.edge_cut else ' (as if at random)'}",
    )
    if needs.time is not None and speed is not None:
        yield _row("time", f"{duration(needs.time.step)} (calibrated on this machine's {speed.device})")
        yield ""
        yield _epochs(needs)
    elif assumptions.price is not None:
        yield _row("time", "not known: --no-calibrate was given; every stage's time is above")
    if assumptions.memory is not None:
        yield ""
        yield from _fit(plan, assumptions.memory)


def _stages(plan: ResourcePlan, price: float | None) -> Iterator[str]:
    """Every stage with its processes, the memory of each, and its time."""
    yield "every stage: processes, memory of each, time and what it is from (larger sizes are extrapolated)"
    for stage in plan.stages:
        time = duration(stage.seconds) if stage.seconds else "not known"
        amount = f"{count(stage.workers)} x {size(stage.memory)}"
        yield _row(stage.stage, f"{amount:<22} {time:<14} {stage.basis}")
    known = sum(stage.seconds for stage in plan.stages)
    cost = "" if plan.cost is None or price is None else f", cost {plan.cost:,.2f}"
    yield _row("in all", f"{duration(known)}{cost}")
    yield ""


def _fit(plan: ResourcePlan, memory: float) -> Iterator[str]:
    if plan.fitting is None:
        yield f"with {size(memory)} per worker: no number of workers fits"
    else:
        fitting, workers, parts = plan.fitting, plan.least_workers or 0, plan.least_parts or 0
        yield (
            f"with {size(memory)} per worker: at least {count(workers)} worker(s), partition.parts "
            f"{count(parts)}"
        )
        if workers != plan.workers:
            yield _row("memory of each", size(fitting.memory.total))
            if fitting.memory.gpu:
                yield _row("memory of its GPU", size(sum(fitting.memory.of_gpu.values())))
            yield _row(
                "sent by each in a step", f"{size(fitting.sent)}, {percent(fitting.local)} of ID rows its own"
            )
            if fitting.time is not None:
                yield _row("time of a step", duration(fitting.time.step))
                yield f"  {_epochs(fitting)}"
    if plan.least_partition_workers is not None:
        yield _row("workers that partition", f"at least {count(plan.least_partition_workers)}")
    yield from (f"breaks: {problem}" for problem in plan.breaks)


def _epochs(needs: Requirements) -> str:
    if needs.time is None:
        return ""
    cost = "" if needs.cost is None else f", cost {needs.cost:,.2f}"
    return (
        f"an epoch of {count(needs.time.steps)} steps: {duration(needs.time.epoch)}; the most epochs: "
        f"{duration(needs.time.training)}{cost}; validations not counted"
    )


def _table(amounts: Mapping[str, int]) -> Iterator[str]:
    yield from (_row(name, size(amount)) for name, amount in amounts.items() if amount)
    yield _row("in all", size(sum(amounts.values())))
    yield ""


def _row(name: str, value: str) -> str:
    return f"  {name:<{_WIDTH}} {value}"
