"""Servers on the loopback interface: moto's S3, an emulator of Google's store, and ones that answer every
request with the same refusal."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from moto.server import DomainDispatcherApplication, ThreadedMotoServer, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.clusters import free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REGION = "us-east-1"


@contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint of an empty S3 (and IAM and STS) server."""
    # Where no server may start (`make quick`), bind fails here, in the test: in the server's own thread the
    # same failure would leave `start` waiting for ever.
    with socket.create_server(("127.0.0.1", 0)):
        pass
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def gcs_server(*buckets: str) -> Iterator[str]:
    """The endpoint of an emulator of Google's object store with empty ``buckets``."""
    command = [sys.executable, "-m", "tests.gcs_emulator", *buckets]
    root = Path(__file__).parents[1]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def moto_with_permissions() -> Iterator[str]:
    """The endpoint of a server in a process of its own, which checks permissions from ``require_permissions``
    on."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def require_permissions(endpoint: str) -> None:
    """From now on the server asks for a known key, a right signature and a policy that allows the action."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def client(endpoint: str, service: str = "s3") -> Any:
    """A client of a moto server; it takes any key."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def upload(endpoint: str, bucket: str, folder: Path, prefix: str) -> None:
    """Put every file of ``folder`` below ``prefix``."""
    s3 = client(endpoint)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An S3 error: ``methods`` and ``matches`` (of the path with its query) tell which requests meet it."""

    status: int
    code: str
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    matches: Callable[[str], bool] = field(default=lambda path: True)
    region: str | None = None


@contextmanager
def refusing_server(refusal: Refusal, otherwise_moto: bool = False) -> Iterator[str]:
    """The endpoint of a server that gives ``refusal``; or moto's, with the buckets of every moto server,
    otherwise."""
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if otherwise_moto and not (environ["REQUEST_METHOD"] in refusal.methods and refusal.matches(path)):
            return moto(environ, start_response)
        text = f"<Error><Code>{refusal.code}</Code><Message>refused by the test</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
        if refusal.region:
            headers.append(("x-amz-bucket-region", refusal.region))
        start_response(f"{refusal.status} refused", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]

    with serving(application) as endpoint:
        yield endpoint


@contextmanager
def serving(application: WSGIApplication) -> Iterator[str]:
    """The endpoint of a server on the loopback interface that runs ``application``, and logs nothing."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002, the base's name
        return
