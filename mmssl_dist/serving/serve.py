"""Puts the HTTP service on a Ray, and takes it down without dropping what was asked: requests under way are
answered, new ones with 503."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mmssl_dist.cluster.connection import cluster_target, connect, describe
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.errors import InputError, WorkerError
from mmssl_dist.serving.guard import API_KEY, Protection, take_key
from mmssl_dist.serving.ingress import PATIENCE, straight_to_replicas
from mmssl_dist.serving.run import Run
from mmssl_dist.serving.titled_run import open_titled_run
from mmssl_dist.storage.paths import absolute

_NAME = "mmssl-dist"
_DRAIN_SECONDS = 30.0  # that a replica waits for its answers
_TRIES = 3  # of a minute each, after which Ray Serve gives its proxies up
_LOOPBACK = ("127.0.0.1", "localhost", "::1")  # which other machines do not reach

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServiceEndpoint:
    """Where the service listens, by how many processes it is answered, and what they let through.

    Attributes:
        max_body: bytes of a request's body.
        max_rate: requests a second of all replicas together; None: no limit.
    """

    host: str
    port: int
    replicas: int
    max_body: int = Protection.max_body
    max_rate: float | None = None

    def protection(self, key_digest: bytes | None) -> Protection:
        """Of one replica: requests are spread evenly over them."""
        rate = None if self.max_rate is None else self.max_rate / self.replicas
        return Protection(key_digest, self.max_body, rate)


def serve_until_stopped(
    url: str,
    storage: Storage,
    where: ServiceEndpoint,
    *,
    items: str | None,
    address: str | None,
    debug: bool,
    echo: Callable[[str], None],
) -> None:
    """Serve an exported run over HTTP until SIGTERM or SIGINT, then drain.

    Requests carry the key of the environment variable ``MMSSL_API_KEY``, where it is set.

    Args:
        items: file with columns of items: titles, and what to filter by; by default the table of titles that
            the run's job names.
        address: of a Ray cluster; its machines have to see the run.
        echo: receives a line when requests are answered, and when draining begins.

    Raises:
        InputError: no such run, the port is taken, the file of items cannot be read, or the key is short.
        WorkerError: a replica cannot read the run.
    """
    # Before Ray starts: what is wrong should be known at once
    protection = where.protection(take_key(os.environ))
    _require_free(where)
    items = None if items is None else absolute(items)
    notes = _item_notes(open_titled_run(absolute(url), storage, items), items)
    if protection.key_digest is None and where.host not in _LOOPBACK:
        notes.append(
            f"anyone who can reach this port may ask; with {API_KEY} in the environment requests need a key"
        )
    joins = cluster_target(address) is not None
    ingress = nullcontext() if joins else straight_to_replicas(where.host)
    with ingress, connect(Scaling(cpus_per_worker=1), storage, address, debug):
        from ray import serve

        stop = threading.Event()
        _on_signals(stop)
        if not debug:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        arguments = (absolute(url), storage, items, protection)
        try:
            _deploy_patiently(lambda: _deploy(where, arguments, joins), lambda: _reason(serve.status()))
            echo(f"serving {url} on http://{where.host}:{where.port}; /docs describes it, Ctrl-C ends it")
            for line in notes:
                echo(line)
            # Signals set the event only: draining takes seconds, and must not happen inside a signal handler.
            stop.wait()
            echo("draining")
            # Replicas stop taking requests and answer those they have, for up to the draining time.
            serve.delete(_NAME)
        finally:
            if joins:  # a Ray of our own ends here with all that it runs
                serve.shutdown()
    echo("stopped")


def _deploy(where: ServiceEndpoint, arguments: tuple[Any, ...], joins: bool) -> None:
    """Start Ray Serve's proxy and the replicas, which are made with ``arguments``."""
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from mmssl_dist.serving.http import Service

    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    # of a Ray of our own every process has them; on a cluster Ray Serve's controller, which reads them
    controller = {"runtime_env": {"env_vars": PATIENCE}} if joins else None
    serve.start(
        http_options={"host": where.host, "port": where.port},
        logging_config=quiet,
        controller_options=controller,
    )
    service: Any = Service
    service = service.options(num_replicas=where.replicas, graceful_shutdown_timeout_s=_DRAIN_SECONDS)
    serve.run(service.bind(*arguments), name=_NAME, logging_config=quiet)


def _item_notes(run: Run, items: str | None) -> list[str]:
    """A line on the columns of the table of items, which is read for it, where one is named."""
    return [] if items is None else [f"items have the columns {', '.join(sorted(run.item_table.columns))}"]


def _deploy_patiently(deploy: Callable[[], None], reason: Callable[[], str]) -> None:
    """``deploy()``, again while Ray Serve's proxies are late; ``reason`` says why the replicas are not there.

    Raises:
        WorkerError: they never were; names what it was that did not start.
    """
    from ray.exceptions import RayActorError

    for attempt in range(1, _TRIES + 1):
        try:
            deploy()
            return
        except (TimeoutError, RayActorError) as error:
            if attempt == _TRIES or isinstance(error, RayActorError):
                raise WorkerError(
                    "the service did not start: Ray Serve's HTTP proxy was not up within a minute, in "
                    f"{attempt} tries ({describe(error)}). Free the machine, or set "
                    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S to more than 60 seconds."
                ) from error
            _logger.warning("Ray Serve's HTTP proxy is not up yet; waiting another minute")
        except RuntimeError as error:
            raise WorkerError(f"the service did not start: {reason() or describe(error)}") from error


def _reason(status: Any) -> str:
    """The last line of what Serve says of the first deployment that has something to say: of an exception,
    its name."""
    if _NAME not in status.applications:
        return ""
    deployments = status.applications[_NAME].deployments.values()
    messages = [deployment.message for deployment in deployments if deployment.message]
    lines = [line.strip() for line in messages[0].splitlines() if line.strip()] if messages else [""]
    return lines[-1]


def _on_signals(stop: threading.Event) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)


def _require_free(where: ServiceEndpoint) -> None:
    try:
        with socket.socket() as probe:
            # As servers do: closing connections of an earlier service do not make the port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((where.host, where.port))
    except OSError as error:
        raise InputError(
            "--port",
            f"{where.host}:{where.port}",
            f"it must be free on this machine ({error.strerror})",
            "Choose another --port or --host.",
        ) from error
