"""A Ray of this machine that ends with the command: where its sockets go, and how long it may take to
start."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.authentication import own_token
from mmssl_dist.cluster.environment import temporary_environment
from mmssl_dist.config.resource_sections import Scaling
from mmssl_dist.errors import InputError, WorkerError

_LARGEST_OBJECT_STORE = 4 << 30  # prepare spills what does not fit
_LATE = ("timed out", "Timed out")
_POLL_SECONDS = 0.5
_LONGEST_FOLDER = 42
"""Bytes of a folder for Ray: a socket's path has at most 107, of which Ray's session takes the rest."""
_SYSTEM_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - as Ray itself does without TMPDIR
_NOT_STARTED = ("start_monitor", "start_api_server", "start_log_monitor")

_logger = logging.getLogger(__name__)


@contextmanager
def local_ray(
    scaling: Scaling, options: Mapping[str, Any], variables: Mapping[str, str], cpu_workers: int = 1
) -> Iterator[None]:
    """A Ray with room for the workers of ``scaling``, until ``ray.shutdown``, which is the caller's.

    Args:
        options: further arguments of ``ray.init``.
        variables: environment of its processes. Given by a runtime_env, they would have Ray start each of
            its workers twice.
        cpu_workers: workers without GPUs that a stage wants at once.

    Raises:
        InputError: no folder can hold Ray's sockets, or RAY_AUTH_TOKEN_PATH names no token.
        WorkerError: Ray did not start.
    """
    # Declared and not counted: on a small machine workers may outnumber cores, and then only run more slowly.
    needed = max(scaling.fewest, cpu_workers) * scaling.cpus_per_worker
    folder = socket_folder()
    arguments = {
        **options,
        "address": "local",
        "include_dashboard": False,
        "num_cpus": max(needed + 1, os.cpu_count() or 1),  # one more for data tasks beside waiting workers
        "object_store_memory": min(_LARGEST_OBJECT_STORE, machine_memory() // 5),
        # Ray's default is below TMPDIR, also where that is too long for the path of a socket
        "_temp_dir": str(folder),
    }
    with own_token():
        # Around the start alone: Ray's processes inherit them, and this process goes back to its own.
        with temporary_environment(variables), few_services(with_logs=bool(options.get("log_to_driver"))):
            _start(arguments, scaling.start_seconds)
        yield


@contextmanager
def few_services(with_logs: bool = False) -> Iterator[None]:
    """Until its end ``ray.init`` starts no autoscaler and no dashboard, which a Ray of one machine that ends
    with its driver has no use for, and no process that gathers the workers' output, unless ``with_logs``.

    Ray starts them one after the other, and with ``include_dashboard=False`` still starts the dashboard's
    process and waits for it: seconds of every start.
    """
    from ray._private.node import Node

    left_out = [name for name in _NOT_STARTED if not (with_logs and name == "start_log_monitor")]
    starts = {name: getattr(Node, name) for name in left_out}
    for name in left_out:
        setattr(Node, name, lambda node, **options: None)
    try:
        yield
    finally:
        for name, start in starts.items():
            setattr(Node, name, start)


def socket_folder() -> Path:
    """The folder for Ray's sockets and logs: ray/ below RAY_TMPDIR or TMPDIR, else below /tmp or /var/tmp.

    Raises:
        InputError: none of them can be written.
    """
    configured = [(name, os.environ[name]) for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)][:1]
    problems: list[str] = []
    for name, parent in [*configured, *(("", folder) for folder in _SYSTEM_FOLDERS)]:
        folder = Path(parent) / "ray"
        problem = _problem(folder)
        if problem is None:
            if problems:
                _logger.warning("%s; Ray's sockets and logs go to %s instead", problems[0], folder)
            return folder
        problems.append(f"{name}={parent} {problem}" if name else f"{parent} {problem}")
    raise InputError(
        "RAY_TMPDIR",
        "; ".join(problems),
        "Ray needs a folder that it can write, with a short name in ASCII",
        "Set RAY_TMPDIR to such a folder.",
    )


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _problem(folder: Path) -> str | None:
    """Why ``folder`` cannot hold Ray's sockets, or None."""
    if not folder.is_absolute():
        return "is not an absolute path"
    if not str(folder).isascii():
        return "has letters beyond ASCII, which Ray cannot take"
    if len(str(folder)) > _LONGEST_FOLDER:
        return f"is too long for a socket's path (at most {_LONGEST_FOLDER - len('/ray')} letters)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _start(arguments: Mapping[str, Any], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Start Ray; a start that is late is tried again until ``seconds`` are over, more where the machine's
    load is above its cores.

    Raises:
        WorkerError: it never was up.
    """
    import ray

    # On a busy machine everything takes longer by about the load per core; failing would help nobody.
    patience = seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    started = clock()
    for attempt in itertools.count(1):
        try:
            with _waiting(patience - (clock() - started)):
                ray.init(**arguments)
            return
        except Exception as error:
            # What a failed start has left would make the next ``ray.init`` connect to it, or refuse to start.
            ray.shutdown()
            if not any(words in str(error) for words in _LATE):  # Ray has no exception of its own for it
                raise
            spent = clock() - started
            if spent >= patience:
                raise WorkerError(
                    f"Ray did not start on this machine within {spent:.0f} s (tries: {attempt}). Free the "
                    "machine, raise scaling.start_seconds, or start Ray by itself with `ray start --head` "
                    "and give `--address auto`."
                ) from error
            _logger.warning(
                "Ray did not start within %.0f s; trying again for %.0f s", spent, patience - spent
            )


@contextmanager
def _waiting(seconds: float) -> Iterator[None]:
    """Until its end ``ray.init`` waits up to ``seconds`` for Ray's processes.

    For its control store and its workers Ray has variables; that a raylet registers within half a minute is
    a constant in its code, and a machine that needs longer would start it over and over. So the question
    that Ray repeats for half a minute is answered late instead, as long as there is a raylet.
    """
    from ray._private import services

    ask = services.get_node
    deadline = time.monotonic() + seconds

    def ask_patiently(gcs_address: str, node_id: str) -> Any:
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:
                if time.monotonic() > deadline or not _has_raylet():
                    raise
            time.sleep(_POLL_SECONDS)

    limit = str(max(int(seconds), 1))
    services.get_node = ask_patiently
    try:
        with temporary_environment(
            {"RAY_gcs_server_port_wait_time_s": limit, "RAY_worker_register_timeout_seconds": limit}
        ):
            yield
    finally:
        services.get_node = ask


def _has_raylet() -> bool:
    """Whether a raylet that this process started is alive."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:  # it ended in the meantime
                continue
            state, parent = rest.split()[:2]
            if name == "raylet" and int(parent) == os.getpid() and state != "Z":
                return True
    return False
