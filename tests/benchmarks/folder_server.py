"""A folder as an S3 bucket to read from: lists, heads and ranges, fast enough not to be what is measured.

Moto's server reads a whole object for every range of it. ``python -m tests.benchmarks.folder_server FOLDER
PORT``
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "raw"
_DATE = "2024-01-01T00:00:00.000Z"


def serve(folder: Path, port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urlsplit(self.path)
            key = unquote(parts.path).removeprefix(f"/{BUCKET}").strip("/")
            if not key:
                self._send(200, _listing(folder, parse_qs(parts.query)))
            elif (folder / key).is_file():
                self._file(folder / key)
            else:
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def _file(self, path: Path) -> None:
            size = path.stat().st_size
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            start, end = int(first or 0), min(int(last or size - 1), size - 1)
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(end + 1 - start))
            if first:
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.send_header("ETag", '"x"')
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.flush()
            with path.open("rb") as stream:
                while start <= end:
                    start += os.sendfile(self.connection.fileno(), stream.fileno(), start, end + 1 - start)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = answer

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _listing(folder: Path, query: dict[str, list[str]]) -> bytes:
    prefix = query.get("prefix", [""])[0]
    keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    contents, prefixes = [], set()
    for key in keys:
        rest = key.removeprefix(prefix)
        if not key.startswith(prefix):
            continue
        if "delimiter" in query and "/" in rest:
            prefixes.add(prefix + rest.partition("/")[0] + "/")
        else:
            size = (folder / key).stat().st_size
            contents.append(
                f"<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{_DATE}</LastModified>"
                "</Contents>"
            )
    common = "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(prefixes))
    count = len(contents) + len(prefixes)
    return (
        f"<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>"
        f"{''.join(contents)}{common}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
