"""Files by URL: what a name may be, and that local disks, S3 and Google's store behave alike."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, StorageError, StorageFault
from mmssl_dist.storage import FileRecord, Location, open_location
from tests.reliability.faults import FaultyStore
from tests.servers import serving

LOCAL = Storage()


@pytest.fixture(
    params=["local", *(pytest.param(name, marks=pytest.mark.processes) for name in ("s3", "gcs"))]
)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A folder that is not there yet, on disk, on S3 and in Google's store."""
    if request.param == "local":
        return open_location(str(tmp_path / "run"), LOCAL)
    scheme = {"s3": "s3", "gcs": "gs"}[request.param]
    return open_location(f"{scheme}://runs/run", request.getfixturevalue(request.param))


@pytest.mark.processes
def test_bytes_go_and_come_back(folder: Location) -> None:
    file = folder / "a/b.bin"
    assert not file.exists()
    record = file.write_bytes(b"hello")
    assert record == FileRecord(5, hashlib.sha256(b"hello").hexdigest())
    assert file.read_bytes() == b"hello"
    assert file.exists()
    assert not file.is_folder()
    assert (folder / "a").is_folder()
    assert file.url == f"{folder.url}/a/b.bin"


def test_an_arrow_buffer_is_written_as_it_is(folder: Location) -> None:
    (folder / "a").write_bytes(pa.py_buffer(b"arrow"))
    assert (folder / "a").read_bytes() == b"arrow"


def test_an_empty_file_is_a_file(folder: Location) -> None:
    assert (folder / "empty").write_bytes(b"").bytes == 0
    assert (folder / "empty").read_bytes() == b""


def test_writing_again_replaces(folder: Location) -> None:
    (folder / "a").write_bytes(b"long content")
    (folder / "a").write_bytes(b"short")
    assert (folder / "a").read_bytes() == b"short"


def test_files_lists_the_whole_tree_in_order(folder: Location) -> None:
    assert folder.files() == []
    for name in ("b.txt", "a/2.txt", "a/1.txt", "a/deep/er/x"):
        (folder / name).write_bytes(name.encode())
    (folder.__class__(folder.filesystem, f"{folder.path}-other", "other") / "c").write_bytes(b"a neighbour")
    assert [folder.relative(info) for info in folder.files()] == [
        "a/1.txt",
        "a/2.txt",
        "a/deep/er/x",
        "b.txt",
    ]
    assert [info.size for info in folder.files()] == [7, 7, 11, 5]


def test_remove_takes_files_and_folders_and_is_content_with_nothing(folder: Location) -> None:
    (folder / "a/1").write_bytes(b"1")
    (folder / "a/2").write_bytes(b"2")
    (folder / "b").write_bytes(b"b")
    (folder / "a/1").remove()
    assert [folder.relative(info) for info in folder.files()] == ["a/2", "b"]
    (folder / "a").remove()
    assert [folder.relative(info) for info in folder.files()] == ["b"]
    folder.remove()
    assert folder.files() == []
    folder.remove()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.zeros((0, 5), np.float32),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.arange(20, dtype=np.float32)[::3],
        np.array([True, False]),
    ],
    ids=["matrix", "empty", "fortran", "strided", "bool"],
)
def test_an_array_is_an_ordinary_npy_file(folder: Location, array: np.ndarray, tmp_path: Path) -> None:
    record = (folder / "x.npy").write_array(array)
    data = (folder / "x.npy").read_bytes()
    assert record == FileRecord(len(data), hashlib.sha256(data).hexdigest())
    again = np.load(io.BytesIO(data), allow_pickle=False)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)
    mapped = np.load(
        (folder / "x.npy").localize(tmp_path / "cache", record), mmap_mode="r", allow_pickle=False
    )
    np.testing.assert_array_equal(mapped, array)


def test_localize_gives_a_file_and_checks_it(folder: Location, tmp_path: Path) -> None:
    record = (folder / "a").write_bytes(b"as published")
    cache = tmp_path / "cache"
    assert (folder / "a").localize(cache, record).read_bytes() == b"as published"
    (folder / "a").write_bytes(b"as tampered!")
    cold = tmp_path / "cold"
    with pytest.raises(ArtifactError, match=r"/a: content differs from its manifest"):
        (folder / "a").localize(cold, record)
    (folder / "a").remove()
    with pytest.raises(ArtifactError, match=r"/a: gone, though its manifest names it"):
        (folder / "a").localize(cold / "other", record)
    with pytest.raises(StorageError, match=r"/a: found nothing"):
        (folder / "a").localize(cold)


def test_localize_downloads_once_and_mends_a_broken_copy(s3: Storage, tmp_path: Path) -> None:
    file = open_location("s3://runs/a", s3)
    record = file.write_bytes(b"content")
    copy = file.localize(tmp_path, record)
    before = copy.stat().st_mtime_ns
    assert file.localize(tmp_path, record).stat().st_mtime_ns == before
    copy.write_bytes(b"damaged")
    assert file.localize(tmp_path, record).read_bytes() == b"content"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [copy]


@pytest.mark.processes
def test_processes_that_want_a_file_at_once_download_it_once(
    s3: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_location("s3://runs/large", s3)
    record = file.write_bytes(b"content" * 1000)
    downloads = []

    def slow_copy(*arguments: object, **options: object) -> None:
        downloads.append(arguments)
        time.sleep(0.2)
        copy_files(*arguments, **options)

    copy_files = pafs.copy_files
    monkeypatch.setattr(pafs, "copy_files", slow_copy)
    with ThreadPoolExecutor(4) as pool:  # each has the lock's file open for itself, as a process has
        paths = list(pool.map(lambda _: file.localize(tmp_path, record), range(4)))
    assert len(downloads) == 1
    assert set(paths) == {path for path in tmp_path.rglob("*") if path.is_file()}


def test_a_local_file_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert open_location(str(tmp_path / "a"), LOCAL).localize(tmp_path / "cache") == tmp_path / "a"
    assert not (tmp_path / "cache").exists()


def test_reading_what_is_not_there_says_so(folder: Location) -> None:
    with pytest.raises(StorageError, match="/none: found nothing; the file must exist") as caught:
        (folder / "none").read_bytes()
    assert caught.value.exit_status == 2


def test_a_local_file_appears_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_location(str(tmp_path / "a"), LOCAL)
    file.write_bytes(b"old")

    class Full:
        """A disk that takes the first piece and is full then."""

        def __init__(self, stream: pa.NativeFile) -> None:
            self.stream, self.pieces = stream, 0

        def write(self, piece: bytes) -> None:
            self.pieces += 1
            if self.pieces > 1:
                raise OSError(28, "No space left on device")
            self.stream.write(piece)

        def close(self) -> None:
            self.stream.close()

    open_stream: Callable[[str], pa.NativeFile] = file.filesystem.open_output_stream

    class Disk:
        def open_output_stream(self, path: str) -> Full:
            return Full(open_stream(path))

    monkeypatch.setattr("mmssl_dist.storage.location._CHUNK", 4)
    monkeypatch.setattr(Location, "is_local", True)
    with pytest.raises(StorageError, match="No space left"):
        Location(Disk(), file.path, file.url).write_bytes(b"new content")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_name_with_nul_is_refused(folder: Location) -> None:
    with pytest.raises(StorageError, match="names must not contain NUL"):
        _ = folder / "a\0b"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "..", "a/.."])
def test_a_name_does_not_leave_its_folder(folder: Location, name: str) -> None:
    with pytest.raises(StorageError, match="may not leave it"):
        _ = folder / name


@given(st.text(max_size=20))
def test_any_name_stays_below_or_is_refused(name: str) -> None:
    root = open_location("/data/run", LOCAL)
    try:
        path = (root / name).path
    except StorageError:
        return
    assert os.path.normpath(path).startswith("/data/run")


def test_plain_paths_and_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert open_location("runs/x", LOCAL).path == f"{tmp_path}/runs/x"
    assert open_location("~/x", LOCAL).path == "/home/someone/x"
    assert open_location("file:///data/a%20b/", LOCAL).path == "/data/a b"
    assert open_location("/data/a%20b", LOCAL).path == "/data/a%20b"
    assert open_location("/data/a#b?c", LOCAL).path == "/data/a#b?c"
    assert open_location("2024:data/x", LOCAL).path == f"{tmp_path}/2024:data/x"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("s3://b", "b"),
        ("s3://b/", "b"),
        ("s3://b/k/e/y", "b/k/e/y"),
        ("s3://b/k/", "b/k"),
        ("s3://b/k#1", "b/k#1"),
    ],
)
def test_s3_urls(url: str, path: str) -> None:
    location = open_location(url, Storage(region="us-east-1"))
    assert (location.path, location.is_local, location.url) == (path, False, url.rstrip("/"))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://", "name a bucket"),
        ("s3:///key", "name a bucket"),
        ("s3://b//k", "not have empty, . or .."),
        ("s3://b/../c", "not have empty, . or .."),
        ("s3://b/k?region=x", "`storage` section"),
        ("ftp://host/x", "found ftp; a URL must start with s3://, gs://, abfs://, "),
        ("memory://x", "found memory; a URL must start with"),
        ("file://data/x", "Write file:///path"),
        ("", "no path"),
        ("a\0b", "unprintable"),
        ("~nobody-of-that-name/x", "home folder"),
    ],
)
def test_urls_that_are_refused(url: str, text: str) -> None:
    with pytest.raises(StorageError, match=text):
        open_location(url, LOCAL)


def test_a_bucket_that_is_not_there_is_told_from_one_that_is_empty(s3: Storage) -> None:
    assert open_location("s3://runs/none", s3).files() == []
    assert not open_location("s3://runs/none", s3).exists()
    wrong = open_location("s3://runz/x", s3)
    for attempt in (wrong.exists, wrong.files, wrong.remove):
        with pytest.raises(
            StorageError, match=r"s3://runz/x: found no bucket runz; the bucket must exist"
        ) as caught:
            attempt()
        assert "`storage` section" in str(caught.value)
    for attempt in (lambda: wrong.write_bytes(b"x"), wrong.read_bytes):
        with pytest.raises(StorageError, match="s3://runz/x"):
            attempt()


@pytest.mark.processes
def test_a_server_that_does_not_answer(s3: Storage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        dead = Storage(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", region="us-east-1", retries=0)
        with pytest.raises(StorageError, match=r"s3://runs/x: (.|\n)*the storage must answer"):
            open_location("s3://runs/x", dead).exists()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("503", r"nothing but refusals \(HTTP status 503\)"),
        ("500", r"nothing but refusals \(HTTP status 500\)"),
        ("reset", "no answer"),
    ],
)
def test_a_server_that_is_not_well(s3: Storage, kind: str, result: str) -> None:
    store = FaultyStore(seed=1)
    store.kinds, store.share = (kind,), 1.0
    with serving(store) as endpoint:
        unwell = open_location("s3://runs/x", Storage(endpoint=endpoint, region="us-east-1", retries=1))
        with pytest.raises(StorageFault, match=rf"s3://runs/x: found {result}; the storage must answer"):
            unwell.exists()
    assert store.spoiled[kind] == 2


def test_other_clients_see_the_same_objects(s3: Storage) -> None:
    client = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1")
    (open_location("s3://runs/run", s3) / "a/x").write_bytes(b"ours")
    assert client.get_object(Bucket="runs", Key="run/a/x")["Body"].read() == b"ours"
    client.put_object(Bucket="runs", Key="run/b", Body=b"theirs")
    assert (open_location("s3://runs/run", s3) / "b").read_bytes() == b"theirs"


def test_a_folder_holds_what_is_below_it_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "out/dataset").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    folder = open_location(f"{tmp_path}/out", LOCAL)
    for inside in ("out", "out/dataset/x", "link/dataset", "link/../out/x", "out/../out"):
        assert folder.holds(open_location(f"{tmp_path}/{inside}", LOCAL)), inside
    for outside in ("outer", "o", "", "out/../x", "link2"):
        assert not folder.holds(open_location(f"{tmp_path}/{outside}", LOCAL)), outside
    bucket = open_location("s3://b/out", Storage(region="us-east-1"))
    assert bucket.holds(open_location("s3://b/out/x", Storage(region="us-east-1")))
    assert not bucket.holds(open_location("s3://b/outer", Storage(region="us-east-1")))
    assert not bucket.holds(folder)
    assert not bucket.holds(open_location("gs://b/out/x", LOCAL))  # another store
    assert open_location("/", LOCAL).holds(folder)


def test_the_size_and_hash_of_a_file(folder: Location) -> None:
    record = (folder / "a").write_bytes(b"content")
    assert (folder / "a").record() == record


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_fault_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Filling a disk takes the right to mount one, so the answer of a full one is played; `make chaos` fills
    one."""

    def full(location: Location) -> None:
        raise OSError(number, "Error writing bytes to file. Detail: something long")

    monkeypatch.setattr(Location, "_writing", full)
    with pytest.raises(StorageFault) as caught:
        (open_location(str(tmp_path), Storage()) / "file").write_bytes(b"content")
    assert caught.value.exit_status == 1
    assert str(caught.value) == (
        f"{tmp_path}/file: found {os.strerror(number)}; the disk must have room for what is "
        "written. Free some space and re-run the command, or choose another output."
    )
    assert list(tmp_path.iterdir()) == []
