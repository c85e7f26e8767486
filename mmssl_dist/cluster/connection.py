"""The driver's connection to Ray: a cluster at an address, or one of this machine that ends with the
command."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from mmssl_dist.cluster.authentication import matching
from mmssl_dist.cluster.capacity import amounts, await_room, grows
from mmssl_dist.cluster.exit_watch import ExitWatch, Terminated, kept_sigterm
from mmssl_dist.cluster.local_ray import local_ray
from mmssl_dist.cluster.log_relay import LogRelay, follow, relayed_logs
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.errors import InputError, WorkerError, find_known, without_secrets

_PROBE_SECONDS = 5.0
_KEEP_BLOCKS = str(1 << 30)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A connected Ray.

    Attributes:
        environment: variables to give to every task and worker; none where their Ray has them from its start.
        debug: show what Ray and other libraries log.
        own: a Ray of this machine that ends with the command.
    """

    environment: Mapping[str, str]
    debug: bool
    own: bool = False

    @cached_property
    def relay(self) -> Any:
        """Handle of the actor that brings the log of tasks and workers to the driver; a process, which starts
        when it is first asked for."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Beside the driver, so that the log survives the loss of any other machine.
        beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        return ray.remote(num_cpus=0, scheduling_strategy=beside)(LogRelay).remote()

    def run_task(self, function: Callable[..., Any], *arguments: object) -> Any:
        """``function(*arguments)`` in one Ray task, off the driver; returns its result.

        Raises:
            MmsslError: as the function raised it.
            WorkerError: it raised something else, or its process died.
        """
        return self.run_tasks(function, [arguments])[0]

    def run_tasks(self, function: Callable[..., Any], arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        """As ``run_task``, one task for each tuple of arguments, side by side."""
        import ray

        variables = {"env_vars": dict(self.environment)} if self.environment else None
        # Retries are for machines that die: an error of the function is an exception and ends the task.
        task = ray.remote(num_cpus=1, max_retries=2, runtime_env=variables)(_call)
        # What is the same object in every call is stored once: for thousands of tasks, the records of an
        # artifact's files would be gigabytes.
        shared = {place: ray.put(value) for place, value in _same_in_all(arguments).items()}
        references = [
            task.remote(function, self.relay, *(shared.get(place, value) for place, value in enumerate(call)))
            for call in arguments
        ]
        # In order, since all of them have been started; the relay is drained whichever one is waited for.
        return [self.result_of(reference, function) for reference in references]

    def result_of(self, reference: Any, function: Callable[..., Any]) -> Any:
        """The value of ``reference``, which runs ``function``; passes on its log meanwhile. Raises as
        ``run_task``."""
        import ray

        follow(self.relay, lambda seconds: bool(ray.wait([reference], timeout=seconds)[0]))
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            # Ray wraps what a task raises; our own errors keep their message and exit status.
            own_error = find_known(error)
            if own_error is not None:
                raise own_error from error
            cause = getattr(error, "cause", None) or error
            raise WorkerError(f"{function.__name__} failed: {describe(cause)}") from error


@contextmanager
def connect(
    scaling: Scaling,
    storage: Storage,
    address: str | None = None,
    debug: bool = False,
    cpu_workers: int = 1,
) -> Iterator[Cluster]:
    """Connect to the Ray cluster at ``address`` or RAY_ADDRESS; without one, start a Ray on this machine.
    Disconnects at its end; an end from outside is reported, see ``ExitWatch``.

    Args:
        cpu_workers: workers without GPUs that a stage wants at once; a Ray that is started has room for them.

    Raises:
        InputError: no cluster there, one that refuses this machine's token, or one that can never hold the
            workers.
        WorkerError: no Ray could be started here.
    """
    import ray
    from ray._private import auto_init_hook

    variables = worker_environment(scaling, storage)
    # Ray reports to its makers and warns about its future defaults unless these are set
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options = {"log_to_driver": debug, "logging_level": logging.INFO if debug else logging.ERROR}
    where = "--address" if address else "RAY_ADDRESS"
    target = cluster_target(address)
    with ExitStack() as stack:
        with kept_sigterm():
            if target:
                stack.enter_context(
                    joined_cluster(where, target, {**options, "runtime_env": {"env_vars": variables}})
                )
            else:
                stack.enter_context(local_ray(scaling, options, variables, cpu_workers))
        watch = ExitWatch()
        stack.callback(watch.close)
        try:
            require_resources(scaling)
            if target:  # a head may run no tasks, and be all there is
                await_room([{"CPU": 1.0}], scaling.wait_seconds, "cluster")
            yield Cluster(variables if target else {}, debug, own=not target)
        except (Terminated, KeyboardInterrupt):
            watch.close()  # the end has been announced, and may take longer than the sender waits
            # Threads that go on until the process ends would start a Ray of their own.
            auto_init_hook.enable_auto_connect = False
            raise
        finally:
            ray.shutdown()


def cluster_target(address: str | None) -> str | None:
    """The cluster to join: ``address`` or RAY_ADDRESS; None for a Ray of this machine, which is also what Ray
    calls "local"."""
    target = address or os.environ.get("RAY_ADDRESS")
    return None if not target or target == "local" else target


@contextmanager
def joined_cluster(where: str, target: str, options: Mapping[str, Any]) -> Iterator[None]:
    """This process as a driver of the cluster at ``target``, with its token if it asks for one, until
    ``ray.shutdown``, which is the caller's.

    Args:
        where: the setting that ``target`` comes from.
        options: further arguments of ``ray.init``.

    Raises:
        InputError: no cluster there, or it refuses this machine's token.
    """
    import ray
    from ray._private.services import canonicalize_bootstrap_address

    if "://" in target:
        raise InputError(
            where,
            target,
            "a driver joins a cluster by host:port, or `auto` on one of its machines",
            "From elsewhere, send the job there with `mmssl-dist submit`.",
        )
    probe(where, target)
    with ExitStack() as stack:
        try:
            resolved = canonicalize_bootstrap_address(target)
            stack.enter_context(matching(where, target, resolved))
            ray.init(address=resolved, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise no_cluster(where, target, error) from error
        yield


def probe(where: str, target: str) -> None:
    """Check that something listens at ``target``, if that names a port: Ray itself would try for many
    minutes.

    Raises:
        InputError: nothing does.
    """
    try:
        parts = urlsplit(target if "://" in target else f"//{target}")
        if parts.port is not None:
            socket.create_connection((parts.hostname or "", parts.port), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise no_cluster(where, target, error) from error


def no_cluster(where: str, target: str, error: Exception) -> InputError:
    """The error to raise when no cluster answers at ``target``."""
    return InputError(
        where,
        target,
        f"a Ray cluster must answer there ({_first_line(error).rstrip('.')})",
        "Start one on this machine with `ray start --head`, or give another one's address.",
    )


def worker_environment(scaling: Scaling, storage: Storage) -> dict[str, str]:
    """Variables of every task and worker. Credentials are not among them: machines of a cluster have their
    own."""
    variables = {
        "OMP_NUM_THREADS": str(scaling.cpus_per_worker),
        "DGLBACKEND": "pytorch",
        # glibc maps and zeroes every large temporary again unless told to keep freed blocks
        "MALLOC_MMAP_THRESHOLD_": _KEEP_BLOCKS,
        "MALLOC_TRIM_THRESHOLD_": _KEEP_BLOCKS,
        "MALLOC_TOP_PAD_": str(1 << 26),
        # blocks so kept are for all threads: what the sampling thread has freed, the step takes
        "MALLOC_ARENA_MAX": "1",
    }
    # DeepSpeed looks for a GPU by itself, and would take one that the job left to others.
    if scaling.gpus_per_worker == 0:
        variables["DS_ACCELERATOR"] = "cpu"
    if storage.endpoint:
        variables["AWS_ENDPOINT_URL"] = storage.endpoint
    if storage.region:
        variables["AWS_REGION"] = variables["AWS_DEFAULT_REGION"] = storage.region
    return variables


def require_resources(scaling: Scaling) -> None:
    """Check that the connected cluster has room for the workers, busy or not.

    Raises:
        InputError: it has not, and no autoscaler that could make it so.
    """
    import ray

    per_worker = scaling.per_worker
    # what the cluster may grow to, where something told Ray; Ray Train asks in the same way
    largest = ray._private.state.state.get_max_resources_from_cluster_config()
    if largest:
        room = int(min(largest.get(name, 0) // amount for name, amount in per_worker.items()))
    else:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = int(
            sum(min(m.get(name, 0) // amount for name, amount in per_worker.items()) for m in machines)
        )
    # An autoscaler that does not say how far it goes may add machines: then only waiting can tell
    if room >= scaling.fewest or (not largest and grows()):
        return
    total = largest or ray.cluster_resources()
    usable = ", ".join(f"{total.get(name, 0):g} {name}" for name in per_worker)
    raise InputError(
        "scaling",
        f"{scaling.fewest} worker(s) of {amounts(per_worker)} each",
        f"the Ray cluster has {usable} in all, room for {room} worker(s)",
        "Lower scaling.workers or what each one takes, or add machines to the cluster.",
    )


def describe(error: BaseException) -> str:
    """One line about an exception that is not ours, without secrets."""
    return without_secrets(f"{type(error).__name__}: {_first_line(error)}".rstrip(": "))


def _same_in_all(calls: Sequence[tuple[object, ...]]) -> dict[int, object]:
    """Arguments that are the same object in all of several calls, by their place."""
    if len(calls) < 2:
        return {}
    first = calls[0]
    return {
        place: value
        for place, value in enumerate(first)
        if all(len(call) > place and call[place] is value for call in calls)
    }


def _call(function: Callable[..., Any], relay: Any, *arguments: object) -> Any:
    with relayed_logs(relay):
        return function(*arguments)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
