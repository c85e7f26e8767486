"""The driver's connection to Ray: a cluster at an address, or one of this machine that ends with the
command."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mmssl_dist.cluster.capacity import amounts, await_room, grows
from mmssl_dist.cluster.exit_watch import LastWords
from mmssl_dist.cluster.log_relay import Relay, carried, follow
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.errors import InputError, WorkerError, find_known

_LARGEST_OBJECT_STORE = 4 << 30  # prepare spills what does not fit
_PROBE_SECONDS = 5.0
_STARTS = 3
_LATE = "timed out during startup"
_KEEP_BLOCKS = str(1 << 30)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A connected Ray.

    Attributes:
        environment: variables to give to every task and worker; none where their Ray has them from its start.
        relay: handle of the actor that brings their log to the driver.
        debug: show what Ray and other libraries log.
    """

    environment: Mapping[str, str]
    relay: Any
    debug: bool

    def run_task(self, function: Callable[..., Any], *arguments: object) -> Any:
        """``function(*arguments)`` in one Ray task, off the driver; returns its result.

        Raises:
            MmsslError: as the function raised it.
            WorkerError: it raised something else, or its process died.
        """
        import ray

        variables = {"env_vars": dict(self.environment)} if self.environment else None
        task = ray.remote(num_cpus=1, max_retries=2, runtime_env=variables)(_call)
        return self.result_of(task.remote(function, arguments, self.relay), function)

    def result_of(self, reference: Any, function: Callable[..., Any]) -> Any:
        """The value of ``reference``, which runs ``function``; passes on its log meanwhile. Raises as
        ``run_task``."""
        import ray

        follow(self.relay, lambda seconds: bool(ray.wait([reference], timeout=seconds)[0]))
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            known = find_known(error)
            if known is not None:
                raise known from error
            cause = getattr(error, "cause", None) or error
            raise WorkerError(f"{function.__name__} failed: {describe(cause)}") from error


@contextmanager
def connect(
    scaling: Scaling, storage: Storage, address: str | None = None, debug: bool = False
) -> Iterator[Cluster]:
    """Connect to the Ray cluster at ``address`` or RAY_ADDRESS; without one, start a Ray on this machine. At
    its end disconnects; what Ray cannot tell of its own end is told, see ``LastWords``.

    Raises:
        InputError: no cluster there, or one that cannot ever hold the workers.
    """
    import ray

    environment = worker_environment(scaling, storage)
    # Ray reports to its makers and warns about its future defaults unless told otherwise
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {
        "log_to_driver": debug,
        "logging_level": logging.INFO if debug else logging.ERROR,
    }
    target = address or os.environ.get("RAY_ADDRESS")
    where = "--address" if address else "RAY_ADDRESS"
    if target:
        _join(where, target, {**options, "runtime_env": {"env_vars": environment}})
    else:
        needed = scaling.fewest * scaling.cpus_per_worker
        options |= {
            "address": "local",
            "include_dashboard": False,
            # one more for data tasks beside waiting workers
            "num_cpus": max(needed + 1, os.cpu_count() or 1),
            "object_store_memory": min(_LARGEST_OBJECT_STORE, machine_memory() // 5),
        }
        # its processes inherit them: given by a runtime_env, they would have Ray start each of its workers
        # twice
        with _variables(environment):
            _start_here(options)
    if not debug:
        _quiet_data()
    words = LastWords()
    try:
        require_resources(scaling)
        if target:
            # a head may run no tasks, and be all there is
            await_room([{"CPU": 1.0}], scaling.wait_seconds, "cluster")
        yield Cluster(environment if target else {}, _start_relay(), debug)
    finally:
        ray.shutdown()
        words.close()


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
        # glibc maps and zeroes every large temporary anew unless told to keep freed blocks
        "MALLOC_MMAP_THRESHOLD_": _KEEP_BLOCKS,
        "MALLOC_TRIM_THRESHOLD_": _KEEP_BLOCKS,
        "MALLOC_TOP_PAD_": str(1 << 26),
        # blocks so kept are for all threads: what the sampling thread has freed, the step takes
        "MALLOC_ARENA_MAX": "1",
    }
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

    each = scaling.each
    # what the cluster may grow to, where something told Ray; Ray Train asks in the same way
    largest = ray._private.state.state.get_max_resources_from_cluster_config()
    if largest:
        room = int(min(largest.get(name, 0) // amount for name, amount in each.items()))
    else:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = int(sum(min(m.get(name, 0) // amount for name, amount in each.items()) for m in machines))
    if room >= scaling.fewest or (not largest and grows()):
        return
    total = largest or ray.cluster_resources()
    there = ", ".join(f"{total.get(name, 0):g} {name}" for name in each)
    raise InputError(
        "scaling",
        f"{scaling.fewest} worker(s) of {amounts(each)} each",
        f"the Ray cluster has {there} in all, room for {room} worker(s)",
        "Lower scaling.workers or what each one takes, or add machines to the cluster.",
    )


def describe(error: BaseException) -> str:
    """One line about an exception that is not ours."""
    return f"{type(error).__name__}: {_first_line(error)}".rstrip(": ")


def _call(function: Callable[..., Any], arguments: tuple[object, ...], relay: Any) -> Any:
    with carried(relay):
        return function(*arguments)


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with ``environment``, as long as the body runs."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _join(where: str, target: str, options: Mapping[str, Any]) -> None:
    """Connect to the cluster at ``target``, which ``where`` names.

    Raises:
        InputError: it is a job server's URL, or no cluster answers there.
    """
    import ray

    if "://" in target:
        raise InputError(
            where,
            target,
            "a driver joins a cluster by host:port, or `auto` on one of its machines",
            "From elsewhere, send the job there with `mmssl-dist submit`.",
        )
    probe(where, target)
    try:
        ray.init(address=target, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise no_cluster(where, target, error) from error


def _start_here(options: Mapping[str, Any]) -> None:
    """Start a Ray on this machine; again if it isn't up within the half minute that Ray itself allows.

    Raises:
        WorkerError: it never was.
    """
    import ray

    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            if _LATE not in str(error):  # Ray has no kind of its own for it
                raise
            if attempt == _STARTS:
                raise WorkerError(
                    f"Ray did not start on this machine in {_STARTS} tries of half a minute; is it "
                    f"overloaded? ({_first_line(error)})"
                ) from error
            _logger.warning("Ray did not start within half a minute; trying again")


def _start_relay() -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=beside)(Relay).remote()


def _quiet_data() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
