"""Local paths on a cluster of several machines: every one of them has to see the same folders."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from mmssl_dist.config import Job
from mmssl_dist.config.named_paths import named_paths
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location, open_location

_SECONDS = 60.0
_TABLE = "export.table.path"


def require_shared(job: Job) -> None:
    """Check that each machine of the connected Ray sees the job's local folders; ``output/job.yaml`` is
    written. The folder of ``export.table.path`` gets a file that is deleted again.

    Raises:
        InputError: one does not; names the setting and the machine.
    """
    if not _several_machines():
        return
    given = named_paths(job)
    given.pop("tracking.mlflow", None)  # one process writes there
    locations = {key: open_location(url, job.storage) for key, url in given.items()}
    paths = {key: location.path for key, location in locations.items() if location.is_local}
    if "output" in paths:  # the folder may be there, and be another one
        paths["output"] = f"{paths['output']}/job.yaml"
    with ExitStack() as stack:
        if _TABLE in paths:  # another one of this name would take rows that are then lost
            paths[_TABLE] = stack.enter_context(_probe_in(locations[_TABLE]))
        missing = unseen(paths)
    _require_seen(missing, given)


def require_shared_folder(setting: str, given: str, folder: Location) -> None:
    """Check that each machine of the connected Ray sees ``folder``, and not another of its name; a file is
    written there and deleted.

    Args:
        setting: what names the folder, and ``given`` how, for messages.

    Raises:
        InputError: one does not; names it.
        StorageError: the folder cannot be written.
    """
    if not folder.is_local or not _several_machines():
        return
    with _probe_in(folder) as path:
        missing = unseen({setting: path})
    _require_seen(missing, {setting: given})


@contextmanager
def _probe_in(folder: Location) -> Iterator[str]:
    """Path of a new file in a local ``folder``; it goes at the end, with the folder if that is new."""
    is_new = not folder.exists()
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
        yield probe.path
    finally:
        probe.remove()
        if is_new:
            with suppress(OSError):  # others may write to it already
                os.rmdir(folder.path)


def _several_machines() -> bool:
    import ray

    # One machine sees its own folders; asking would cost a task for nothing.
    return sum(bool(node["Alive"]) for node in ray.nodes()) > 1


def _require_seen(missing: Mapping[str, str], given: Mapping[str, str]) -> None:
    for key, machine in missing.items():
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
