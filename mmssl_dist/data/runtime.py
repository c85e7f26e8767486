"""Ray Data as this package uses it: quiet, and with errors that reach the caller as they were raised."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray.data import DataContext, Dataset
from ray.data._internal.cluster_autoscaler import DefaultAutoscalingCoordinator
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import STANDARD_RESOURCE_TYPES
from ray.data._internal.stats import _StatsManager
from ray.data.context import ShuffleStrategy
from ray.exceptions import RayError

from mmssl_dist.errors import find_known

SMALL_BYTES = 1 << 30


@contextmanager
def ray_data(raw_bytes: int) -> Iterator[None]:
    """Settings for the duration of one preparation; known errors of tasks come out as themselves.

    Small inputs take the pull-based sort shuffle: the default one starts worker processes of its own for each
    shuffle, seconds that only pay off when there is much to shuffle. The results are the same.
    """
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    # The context is one for the whole process, which may use Ray Data for something else afterwards.
    settings = (
        "enable_progress_bars",
        "print_on_execution_start",
        "raise_original_map_exception",
        "shuffle_strategy",
    )
    before = {name: getattr(context, name) for name in settings}
    level = logger.level
    # Bars redraw the terminal that our own progress lines are written to.
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    if raw_bytes < SMALL_BYTES:
        context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    logger.setLevel(logging.CRITICAL)  # what it would log is raised as well
    try:
        with _without_actors() if _own_ray() else nullcontext():
            yield
    except RayError as error:
        own_error = find_known(error)
        if own_error is None:
            raise
        raise own_error from error
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def _own_ray() -> bool:
    """Whether this process has started the Ray that it is connected to."""
    node = ray._private.worker._global_node
    return node is not None and bool(node.is_head())


def _nothing(*arguments: object, **options: object) -> None:
    """Stands in for a report that nobody reads."""


def _this_machine(coordinator: object) -> dict[str, dict[str, float]]:
    """All resources of this machine, by the id of its node."""
    return {
        node["NodeID"]: {name: node["Resources"].get(name, 0.0) for name in STANDARD_RESOURCE_TYPES}
        for node in ray.nodes()
        if node["Alive"]
    }


# Of the two actors that Ray Data starts in processes of their own, the methods that ask them
_ASKING: tuple[tuple[type, str, Any], ...] = (
    (_StatsManager, "gen_dataset_id_from_stats_actor", staticmethod(lambda: uuid.uuid4().hex)),
    (_StatsManager, "register_dataset_to_stats_actor", staticmethod(_nothing)),
    (_StatsManager, "update_execution_metrics", staticmethod(_nothing)),
    (_StatsManager, "update_iteration_metrics", staticmethod(_nothing)),
    (DefaultAutoscalingCoordinator, "request_resources", _nothing),
    (DefaultAutoscalingCoordinator, "cancel_request", _nothing),
    (DefaultAutoscalingCoordinator, "get_reserved_resources", _this_machine),
)


@contextmanager
def _without_actors() -> Iterator[None]:
    """Until its end Ray Data starts neither the actor that keeps statistics for the dashboard nor the one
    that asks for more machines: a Ray of this machine has no dashboard and no other machines. Each takes
    seconds to start, and asking for them by name can end in an error line of Ray's."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in _ASKING]
    for owner, name, replacement in _ASKING:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def numbers(count: int) -> Dataset:
    """0..count-1 in column ``id``, one task each."""
    return ray.data.range(count, override_num_blocks=count)
