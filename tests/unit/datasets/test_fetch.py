"""Public sets from a server on the loopback interface: what is whole, what resumes, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from mmssl_dist.datasets import fetch as module
from mmssl_dist.datasets.fetch import FETCH_RECORD, SETS, PublicSet, extract, fetch
from mmssl_dist.errors import InputError, StorageFault
from tests.servers import serving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Files:
    """A server of files by name, with ranges, and with what it was asked for; ``cut`` breaks answers off."""

    def __init__(self, **files: bytes) -> None:
        self.files = {name.replace("__", "."): content for name, content in files.items()}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        self.ranges = True

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        name, wanted = environ["PATH_INFO"].lstrip("/"), environ.get("HTTP_RANGE")
        self.asked.append((name, wanted))
        content = self.files.get(name)
        if content is None:
            start("404 Not Found", [("Content-Length", "0")])
            return [b""]
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if first and first >= len(content):
            start("416 Range Not Satisfiable", [("Content-Length", "0")])
            return [b""]
        body = content[first:]
        headers = [("Content-Length", str(len(body)))]
        if first:
            headers.append(("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"))
        start("206 Partial Content" if first else "200 OK", headers)
        return [body if self.cut is None else body[: self.cut]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Files, str]]]:
    """Serves files as the set "tiny", with the checksums given."""
    contexts = []

    def serve(checksums: dict[str, str | None], **files: bytes) -> tuple[Files, str]:
        server = Files(**files)
        context = serving(server)
        contexts.append(context)
        monkeypatch.setitem(SETS, "tiny", PublicSet("http://127.0.0.1:1", checksums, "a note"))
        return server, context.__enter__()

    yield serve
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.mark.processes
def test_a_set_comes_whole_and_is_not_fetched_twice(served, tmp_path):
    server, url = served({"a.npy": f"sha256:{SHA}", "b.bin": None}, a__npy=CONTENT, b__bin=b"two")
    result = fetch("tiny", tmp_path, url)
    assert [(entry.name, entry.bytes, entry.verified) for entry in result] == [
        ("a.npy", 10240, True),
        ("b.bin", 3, False),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.bin", FETCH_RECORD]
    assert json.loads((tmp_path / FETCH_RECORD).read_text())["files"]["a.npy"]["sha256"] == SHA
    assert len(server.asked) == 2
    assert fetch("tiny", tmp_path, url) == result
    assert len(server.asked) == 2
    (tmp_path / "b.bin").write_bytes(b"too")  # changed here: the hash of the first time tells
    assert fetch("tiny", tmp_path, url) == result
    assert (tmp_path / "b.bin").read_bytes() == b"two"
    server.files["b.bin"] = b"six"
    (tmp_path / "b.bin").unlink()
    with pytest.raises(InputError, match="it must be " + hashlib.sha256(b"two").hexdigest()):
        fetch("tiny", tmp_path, url)
    assert not (tmp_path / FETCH_RECORD).exists()


@pytest.mark.processes
@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on_or_starts_again(served, tmp_path, ranges):
    server, url = served({"a.npy": f"sha256:{SHA}"}, a__npy=CONTENT)
    server.cut = 1000
    with pytest.raises(StorageFault, match="Run the command again to resume") as caught:
        fetch("tiny", tmp_path, url)
    assert caught.value.exit_status == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy.part"]
    server.cut, server.ranges = None, ranges
    fetch("tiny", tmp_path, url)
    assert (tmp_path / "a.npy").read_bytes() == CONTENT
    assert server.asked == [("a.npy", None), ("a.npy", "bytes=1000-")]


@pytest.mark.processes
@pytest.mark.parametrize("left", [b"something else", CONTENT + b"more"])
def test_a_beginning_that_does_not_fit_is_left(served, tmp_path, left):
    _, url = served({"a.npy": f"sha256:{SHA}"}, a__npy=CONTENT)
    (tmp_path / "a.npy.part").write_bytes(left)
    fetch("tiny", tmp_path, url)
    assert (tmp_path / "a.npy").read_bytes() == CONTENT


@pytest.mark.processes
def test_another_content_is_refused_and_nothing_is_left(served, tmp_path):
    _, url = served({"a.npy": f"sha256:{SHA}"}, a__npy=b"changed")
    with pytest.raises(InputError) as caught:
        fetch("tiny", tmp_path, url)
    result = hashlib.sha256(b"changed").hexdigest()
    assert f"/a.npy: found SHA256 {result}; it must be {SHA}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_what_is_not_there(served, tmp_path):
    _, url = served({"a.npy": None})
    with pytest.raises(InputError, match="HTTP status 404"):
        fetch("tiny", tmp_path, url)
    with pytest.raises(StorageFault, match="the server must answer"):
        fetch("tiny", tmp_path)
    with pytest.raises(InputError, match="fetched over http or https"):
        fetch("tiny", tmp_path, "file:///etc")
    with pytest.raises(InputError, match="NAME: found nowhere; known sets are movielens-100k, movielens-1m"):
        fetch("nowhere", tmp_path)


def archive(*members: tuple[str, bytes], link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as writer:
        for name, content in members:
            writer.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo("ml/link")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            writer.writestr(entry, link)
    return stream.getvalue()


@pytest.mark.processes
def test_an_archive_is_unpacked(served, tmp_path):
    _, url = served({"ml.zip": None}, ml__zip=archive(("ml/ratings.dat", b"1::2"), ("ml/README", b"terms")))
    fetch("tiny", tmp_path, url)
    assert (tmp_path / "ml/ratings.dat").read_bytes() == b"1::2"
    assert sorted(path.name for path in tmp_path.iterdir()) == [FETCH_RECORD, "ml", "ml.zip"]


@pytest.mark.parametrize(
    "content",
    [
        archive(("ml/a", b"1"), ("../out", b"2")),
        archive(("/out", b"2")),
        archive(("ml/../../out", b"2")),
        archive(("..\\out", b"2")),
        archive(("ml/a", b"1"), link="/etc/passwd"),
        b"no archive",
    ],
)
def test_an_archive_that_leaves_its_folder_is_refused_before_anything_is_written(tmp_path, content):
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "bad.zip").write_bytes(content)
    with pytest.raises(
        InputError, match=r"archives stay in their folder and hold no links|it must be a zip archive"
    ):
        extract(folder / "bad.zip", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in folder.iterdir()] == ["bad.zip"]


def damaged() -> bytes:
    """An archive whose member cannot be decompressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("ml/ratings.dat", "".join(hashlib.sha256(bytes([i])).hexdigest() for i in range(99)))
    content = bytearray(stream.getvalue())
    content[50:70] = b"\xff" * 20  # where the codes of the compressed data are
    return bytes(content)


def encrypted() -> bytes:
    """An archive whose member is marked as encrypted, in its own header and in the directory."""
    content = bytearray(archive(("ml/ratings.dat", b"1::2")))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize("content", [damaged(), encrypted()], ids=["damaged", "encrypted"])
def test_an_archive_that_cannot_be_unpacked_leaves_nothing_behind(tmp_path, content):
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(InputError, match="it must be a zip archive"):
        extract(tmp_path / "bad.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_an_archive_larger_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_UNPACKED", 10)
    (tmp_path / "big.zip").write_bytes(archive(("a", b"x" * 11)))
    with pytest.raises(InputError, match="found 11 bytes unpacked"):
        extract(tmp_path / "big.zip", tmp_path)


def test_every_set_says_what_its_terms_are_and_names_files():
    for name, entry in SETS.items():
        assert entry.base.startswith("https://"), name
        assert "research" in entry.note
        for file, checksum in entry.files.items():
            assert "/" not in file
            assert checksum is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum)
