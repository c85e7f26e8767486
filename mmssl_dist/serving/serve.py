"""Puts the HTTP service on a Ray, and takes it down without dropping what was asked: new requests are
answered 404, those under way as ever."""

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

from mmssl_dist.cluster.connection import connect
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.errors import InputError, WorkerError
from mmssl_dist.serving.ingress import straight_to_replicas
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage.paths import absolute

_NAME = "mmssl-dist"
_DRAIN_SECONDS = 30.0  # that a replica waits for its answers


@dataclass(frozen=True)
class Listening:
    """Where the service listens, and by how many processes it is answered."""

    host: str
    port: int
    replicas: int


def serve_until_stopped(
    url: str,
    storage: Storage,
    where: Listening,
    address: str | None,
    debug: bool,
    echo: Callable[[str], None],
) -> None:
    """Serve an exported run over HTTP until SIGTERM or SIGINT, then drain.

    Args:
        address: of a Ray cluster; its machines have to see the run.
        echo: is told when requests are answered, and when draining begins.

    Raises:
        InputError: no such run, or the port is taken.
        WorkerError: a replica cannot read the run.
    """
    open_run(absolute(url), storage)  # before Ray is started
    _require_free(where)
    joins = bool(address or os.environ.get("RAY_ADDRESS"))
    ingress = nullcontext() if joins else straight_to_replicas(where.host)
    with ingress, connect(Scaling(cpus_per_worker=1), storage, address, debug):
        from ray import serve
        from ray.serve.schema import LoggingConfig

        from mmssl_dist.serving.http import Service

        stop = threading.Event()
        _on_signals(stop)
        if not debug:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
        try:
            serve.start(http_options={"host": where.host, "port": where.port}, logging_config=quiet)
            service: Any = Service
            service = service.options(num_replicas=where.replicas, graceful_shutdown_timeout_s=_DRAIN_SECONDS)
            try:
                serve.run(service.bind(absolute(url), storage), name=_NAME, logging_config=quiet)
            except RuntimeError as error:
                raise WorkerError(f"the service did not start: {_reason(serve.status()) or error}") from error
            echo(f"serving {url} on http://{where.host}:{where.port}; /docs describes it, Ctrl-C ends it")
            stop.wait()
            echo("draining")
            serve.delete(_NAME)
        finally:
            if joins:  # a Ray of our own ends here with all that it runs
                serve.shutdown()
    echo("stopped")


def _reason(status: Any) -> str:
    """The last line of what Serve says of the first deployment that has something to say: of an exception,
    its name."""
    messages = [each.message for each in status.applications[_NAME].deployments.values() if each.message]
    lines = [line.strip() for line in messages[0].splitlines() if line.strip()] if messages else [""]
    return lines[-1]


def _on_signals(stop: threading.Event) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)


def _require_free(where: Listening) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((where.host, where.port))
    except OSError as error:
        raise InputError(
            "--port",
            f"{where.host}:{where.port}",
            f"it must be free on this machine ({error.strerror})",
            "Choose another --port or --host.",
        ) from error
