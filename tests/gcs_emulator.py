"""An emulator of Google's object store in a process of its own: writes its port.

In a process of its own, since pyarrow keeps Python's lock during some requests; and by threads, since a
client opens a second connection while it reads from the first, where the package's own server takes one at
a time.
"""

from __future__ import annotations

import sys
from functools import partial
from http.server import ThreadingHTTPServer

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that has read enough closes its connection."""


def main(buckets: list[str]) -> None:
    """Serve empty ``buckets`` on a free port of the loopback interface."""
    storage = Storage(use_memory_fs=True)
    for bucket in buckets:
        create_bucket(bucket, storage)
    server = _Server(("127.0.0.1", 0), partial(RequestHandler, storage))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
