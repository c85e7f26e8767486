"""Waiting for machines: says what is awaited, and gives up after a while with what was missing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence

from mmssl_dist.errors import InputError

_logger = logging.getLogger(__name__)

_SOON_SECONDS = 2.0
_SAY_SECONDS = 30.0
_STATUS_SECONDS = 10


def await_room(bundles: Sequence[Mapping[str, float]], limit: float, stage: str) -> None:
    """Wait until the connected Ray has room for all ``bundles`` of resources at once.

    The demand is a placement group's, so an autoscaler sees it, and it ends with this process whatever
    happens.

    Args:
        limit: seconds after which to give up.
        stage: what the room is for, to start the lines with.

    Raises:
        InputError: there was no room within ``limit``.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    need = _need(bundles)
    started = time.monotonic()
    # A placement group is Ray's only way to ask for several bundles at once, and makes an autoscaler grow.
    group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
    try:
        # A short wait in silence: on a free cluster there is nothing to say.
        if group.wait(min(_SOON_SECONDS, limit)):
            return
        while (waited := time.monotonic() - started) < limit:
            _logger.info(
                "%s: waiting for room for %s; free now: %s; %d s of at most %d s",
                stage,
                need,
                _free(bundles),
                waited,
                limit,
            )
            if group.wait(min(_SAY_SECONDS, max(limit - waited, 0.1))):
                _logger.info("%s: room found after %d s", stage, time.monotonic() - started)
                return
    finally:
        # Ray Train makes a group of its own: this one only finds out whether there is room.
        remove_placement_group(group)
    raise InputError(
        "scaling.wait_seconds",
        f"no room for {need} after {limit:g} s",
        f"the Ray cluster must have it free by then (free now: {_free(bundles)})",
        "End other jobs, let the cluster grow further, ask for less, or wait longer.",
    )


def room_now(bundle: Mapping[str, float]) -> int:
    """How many such bundles of resources the machines of the connected Ray have free."""
    from ray._private.state import available_resources_per_node

    machines = available_resources_per_node().values()
    return int(
        sum(min(free.get(name, 0.0) // amount for name, amount in bundle.items()) for free in machines)
    )


def grows() -> bool:
    """Whether an autoscaler that can start machines watches the connected Ray.

    Ray does not say how far. Every Ray has a monitor, but one without machines to start names their kinds
    after them.
    """
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    # Of the first autoscaler; the second one answers for itself.
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = json.loads(status).get("autoscaler_report") if status else None
    if report is not None:
        node_types = list(report.get("active_nodes") or {})
    else:
        status = get_cluster_status(ray.get_runtime_context().gcs_address, _STATUS_SECONDS)
        node_types = [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
    return any(node_type and not node_type.startswith("node_") for node_type in node_types)


def machines() -> int:
    """How many machines the connected Ray has."""
    import ray

    # Ray lists machines that have gone, too.
    return sum(node["Alive"] for node in ray.nodes())


def memory_found() -> float:
    """Bytes that Ray counts as memory on all machines of the connected cluster, without what its object
    stores take; 0 when it was told not to count."""
    import ray

    return float(ray.cluster_resources().get("memory", 0.0))


def amounts(resources: Mapping[str, float]) -> str:
    """Resources in words."""
    words = (
        name if name.startswith("accelerator_type:") else f"{amount:g} {name}"
        for name, amount in resources.items()
    )
    return ", ".join(words)


def _need(bundles: Sequence[Mapping[str, float]]) -> str:
    return (
        f"{len(bundles)} worker(s) of {amounts(bundles[0])} each" if len(bundles) > 1 else amounts(bundles[0])
    )


def _free(bundles: Sequence[Mapping[str, float]]) -> str:
    import ray

    free = ray.available_resources()
    return amounts({name: free.get(name, 0.0) for name in bundles[0]})
