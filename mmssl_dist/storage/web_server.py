"""What a web server says of a file, by one request for its first byte."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from datetime import UTC
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pyarrow.fs as pafs

from mmssl_dist.errors import StorageError

_SECONDS = 15.0
_ABSENT = (404, 410)
_NO_RANGE = 416  # what a server says to the first byte of a file that has none
_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


def http_info(url: str) -> pafs.FileInfo:
    """Size and time of change of the file at ``url``; of type NotFound where there is none.

    Raises:
        StorageError: the server does not answer requests for ranges.
        OSError: it refuses, or there is none.
    """
    # As aiohttp sends it, which reads the file: what is percent-encoded stays so.
    sent = quote(url, safe="/:%~!$&'()*+,;=@[]")
    # S310: open_location lets https and http through only.
    request = urllib.request.Request(sent, headers={"Range": "bytes=0-0"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            headers, status = answer.headers, answer.status
    except urllib.error.HTTPError as error:
        if error.code in _ABSENT:
            return pafs.FileInfo(url, pafs.FileType.NotFound)
        if error.code != _NO_RANGE:
            raise
        headers, status = error.headers, error.code
    if status == _NO_RANGE or headers.get("Content-Length") == "0":
        return _file(url, 0, headers)
    size = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if size is None:
        raise StorageError(
            url,
            "the whole file where one byte was asked for",
            "the server must support range requests",
            "Serve the files with one that does, or copy them.",
        )
    return _file(url, int(size[1]), headers)


def _file(url: str, size: int, headers: Message) -> pafs.FileInfo:
    try:
        modified = parsedate_to_datetime(headers.get("Last-Modified", ""))
    except ValueError:
        return pafs.FileInfo(url, pafs.FileType.File, size=size)
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    return pafs.FileInfo(url, pafs.FileType.File, mtime=modified.timestamp(), size=size)
