"""An emulator of Google's object store in a process of its own: writes its port.

In a process of its own, since pyarrow keeps Python's lock during some requests; and by threads, since a
client opens a second connection while it reads from the first, where the package's own server takes one at
a time. Its storage is not made for threads (it forgets an upload while another ends), so requests are carried
out one at a time, between reading what is sent and writing the answer.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial, wraps
from http.server import ThreadingHTTPServer

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import HANDLERS, Request, RequestHandler, Response
from gcp_storage_emulator.storage import Storage

_storage_lock = threading.Lock()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that has read enough closes its connection."""


def _one_at_a_time(carry_out: Callable[..., None]) -> Callable[..., None]:
    @wraps(carry_out)
    def one(request: Request, response: Response, storage: Storage) -> None:
        request.data  # noqa: B018, read from the connection here, which a slow client may keep waiting
        with _storage_lock:
            carry_out(request, response, storage)

    return one


def main(buckets: list[str]) -> None:
    """Serve empty ``buckets`` on a free port of the loopback interface."""
    for _, by_method in HANDLERS:
        by_method.update({method: _one_at_a_time(handler) for method, handler in by_method.items()})
    storage = Storage(use_memory_fs=True)
    for bucket in buckets:
        create_bucket(bucket, storage)
    server = _Server(("127.0.0.1", 0), partial(RequestHandler, storage))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
