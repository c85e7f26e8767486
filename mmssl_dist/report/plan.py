"""A plan as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmssl_dist.planning.plan import Plan, Speed, Terms
from mmssl_dist.report.progress import count, duration, percent, size

_WIDTH = 26


def plan_lines(plan: Plan, terms: Terms, speed: Speed | None) -> list[str]:
    """Everything about a plan, for a terminal."""
    return list(_lines(plan, terms, speed))


def _lines(plan: Plan, terms: Terms, speed: Speed | None) -> Iterator[str]:
    sizes, batch = plan.sizes, plan.batch
    yield (f"{count(sizes.num_users)} users, {count(sizes.num_items)} items, {count(sizes.interactions)} training "
           f"interactions ({sizes.source})")  # fmt: skip
    yield f"{plan.workers} worker(s), {plan.parts} partitions"
    yield ""
    yield "memory per worker"
    yield from _table({**plan.memory.host, **plan.memory.device}, plan.memory.total)
    yield "memory of the task that partitions"
    yield from _table(plan.partition, sum(plan.partition.values()))
    yield "storage"
    yield from _table(plan.storage, sum(plan.storage.values()))
    yield "each worker, each step"
    yield _row("training pairs", count(round(batch.pairs)))
    yield _row("ID rows", f"{count(round(batch.rows))}, {percent(plan.local)} of them its own")
    yield _row("sampled edges", count(round(batch.edges)))
    yield _row("sent to others", f"{size(plan.sent)}, {percent(sizes.cut_between(plan.workers))} of edges cut"
                                 f"{'' if sizes.edge_cut else ' (as if at random)'}")  # fmt: skip
    if plan.time is not None and speed is not None:
        yield _row("time", f"{duration(plan.time.step)} (calibrated on this machine's {speed.device})")
        yield ""
        cost = "" if plan.cost is None else f", cost {plan.cost:,.2f}"
        yield (f"an epoch of {count(plan.time.steps)} steps: {duration(plan.time.epoch)}; the most epochs: "
               f"{duration(plan.time.training)}{cost}; validations not counted")  # fmt: skip
    if terms.memory is not None:
        yield ""
        yield from _fit(plan, terms.memory)


def _fit(plan: Plan, memory: float) -> Iterator[str]:
    if plan.least_workers is not None:
        yield (f"with {size(memory)} per worker: at least {count(plan.least_workers)} worker(s), "
               f"partition.parts {count(plan.least_parts or 0)}")  # fmt: skip
    else:
        yield f"with {size(memory)} per worker: no number of workers fits"
    yield from (f"breaks: {problem}" for problem in plan.breaks)


def _table(amounts: Mapping[str, int], total: int) -> Iterator[str]:
    yield from (_row(name, size(amount)) for name, amount in amounts.items())
    yield _row("in all", size(total))
    yield ""


def _row(name: str, value: str) -> str:
    return f"  {name:<{_WIDTH}} {value}"
