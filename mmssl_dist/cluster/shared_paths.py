"""Local paths on a cluster of several machines: every one of them has to see the same folders."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mmssl_dist.config import Job
from mmssl_dist.config.named_paths import named_paths
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location

_SECONDS = 60.0


def require_shared(job: Job) -> None:
    """Check that each machine of the connected Ray sees the job's local folders; ``output/job.yaml`` is
    written.

    Raises:
        InputError: one does not; names the setting and the machine.
    """
    import ray

    # One machine sees its own folders; asking would cost a task for nothing.
    if sum(bool(node["Alive"]) for node in ray.nodes()) < 2:
        return
    given = named_paths(job)
    given.pop("tracking.mlflow", None)  # one process writes there
    locations = {key: open_location(url, job.storage) for key, url in given.items()}
    paths = {key: location.path for key, location in locations.items() if location.is_local}
    if "output" in paths:  # the folder may be there, and be another one
        paths["output"] = f"{paths['output']}/job.yaml"
    for key, machine in unseen(paths).items():
        raise InputError(
            key,
            given[key],
            f"every machine of the cluster must see it, and {machine} does not",
            "Use object storage, or a folder that all machines share.",
        )


def unseen(paths: Mapping[str, str]) -> dict[str, str]:
    """Of each path that some machine does not see, by its key: that machine's address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not paths:
        return {}
    nodes_by_task = {}
    for node in ray.nodes():
        if node["Alive"]:
            on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(num_cpus=0, scheduling_strategy=on_node)(_missing)
            nodes_by_task[look.remote(dict(paths))] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(nodes_by_task), num_returns=len(nodes_by_task), timeout=_SECONDS)
    return {key: nodes_by_task[answer] for answer in answered for key in ray.get(answer)}


def _missing(paths: dict[str, str]) -> list[str]:
    return [key for key, path in paths.items() if not os.path.exists(path)]
