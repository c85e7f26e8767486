"""Other stores than S3: what URLs name, what refusals mean, and web servers, which files are read from."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError, StorageError, StorageFault
from mmssl_dist.storage import Location, Manifest, begin, open_location, publish, read_manifest
from mmssl_dist.storage.remote_errors import explain_remote, shown_text
from tests.servers import client, serving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = "a-secret-that-must-not-show"
ACCOUNT = "abfs://cont@acc.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("url", "path", "scheme"),
    [
        ("gs://b", "b", "gs"),
        ("gs://b/k/e/y/", "b/k/e/y", "gs"),
        ("gs://b/k#1", "b/k#1", "gs"),
        (f"{ACCOUNT}/k/e", "cont/k/e", "abfs"),
        ("abfss://cont@acc.dfs.core.windows.net", "cont", "abfss"),
        ("https://host:8443/data/", "https://host:8443/data", "https"),
        ("http://host/data/a.csv", "http://host/data/a.csv", "http"),
    ],
)
def test_urls(url: str, path: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    location = open_location(url, Storage(anonymous=True))
    assert (location.path, location.scheme, location.is_local) == (path, scheme, False)
    assert location.url == url.rstrip("/")
    assert (location / "a/b").path == f"{path}/a/b"
    assert location.is_read_only == (scheme in ("https", "http"))


def test_the_account_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acc")
    assert open_location("abfs://cont/k", Storage()).path == "cont/k"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("gs://", "found no bucket; an gs URL must name a bucket. Write gs://bucket/key"),
        ("gs:///key", "name a bucket"),
        ("gs://b/../c", "not have empty, . or .."),
        ("gs://b/k?generation=1", "found a query; such a URL has the form gs://bucket/key"),
        ("abfs://", "no container"),
        ("abfs://cont/k", "no storage account; it must be in the URL"),
        ("https://", "no server"),
        (f"https://host/a.parquet?sig={SECRET}", "https://host/a.parquet: found a query"),
        (f"https://user:{SECRET}@host/a.parquet", "https://host: found a user before the server's name"),
    ],
)
def test_urls_that_are_refused(url: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StorageError) as caught:
        open_location(url, Storage())
    assert text in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(StorageError, match=r"no package huggingface_hub; .*pip install 'mmssl-dist\[hf\]'"):
        open_location("hf://datasets/owner/name", Storage())


# What clients say, as they said it to real stores or their emulators
@pytest.mark.parametrize(
    ("text", "scheme", "value"),
    [
        (
            "google::cloud::Status(PERMISSION_DENIED: Permanent error, with a last message of x does not "
            "have storage.objects.get access error_info={gcloud-cpp.retry.function=ReadObject}",
            "gs",
            "no permission (storage.objects.get)",
        ),
        (
            "google::cloud::Status(UNAUTHENTICATED: Permanent error, with a last message of Invalid "
            "Credentials)",
            "gs",
            "credentials that the storage does not know",
        ),
        ("Could not create a OAuth2 access token to authenticate the request.", "gs", "no credentials"),
        (
            "Status(INVALID_ARGUMENT): invalid_grant, Token has been expired or revoked.",
            "gs",
            "expired credentials",
        ),
        (
            "Azure Error: [AuthorizationPermissionMismatch] 403 This request is not authorized",
            "abfs",
            "no permission",
        ),
        (
            "Azure Error: [ContainerNotFound] 404 The specified container does not exist.",
            "abfs",
            "no bucket b",
        ),
        ("Failed to get token from DefaultAzureCredential.", "abfs", "no credentials"),
        ("Azure Error: [ServerBusy] 503", "abfs", "nothing but refusals (ServerBusy)"),
        ("Unable to load libjvm", "hdfs", "no Hadoop client"),
        ("Client error '401 Unauthorized' for url 'https://huggingface.co'", "hf", "credentials that"),
        ("HTTP Error 403: Forbidden", "https", "no permission"),
        ("<urlopen error [Errno 111] Connection refused>", "https", "no answer"),
    ],
)
def test_what_refusals_mean(text: str, scheme: str, value: str) -> None:
    problem = explain_remote(OSError(text), scheme, "b")
    assert problem is not None
    assert problem.value.startswith(value)
    assert problem.rule
    assert problem.remedy


def test_a_signature_is_not_shown() -> None:
    text = "GetProperties failed for 'https://a.blob.core.windows.net/c/x?sv=1&sig=secret%3D': odd\nmore"
    assert (
        shown_text(OSError(text)) == "GetProperties failed for 'https://a.blob.core.windows.net/c/x?...': odd"
    )


def test_an_unusual_error_is_shown_as_it_is() -> None:
    assert shown_text(OSError("the moon is full")) == "the moon is full"
    assert explain_remote(OSError("the moon is full"), "gs", "b") is None


@pytest.mark.processes
def test_a_bucket_that_is_not_there_is_told_from_one_that_is_empty(gcs: Storage) -> None:
    assert open_location("gs://runs/none", gcs).files() == []
    wrong = open_location("gs://runz/x", gcs)
    attempts = (wrong.exists, wrong.files, wrong.remove, wrong.look, lambda: wrong.write_bytes(b"x"))
    for attempt in attempts:
        with pytest.raises(StorageError, match=r"gs://runz/x: found no bucket runz; the bucket must exist"):
            attempt()


@pytest.mark.processes
def test_a_manifest_makes_an_artifact_and_goes_first(gcs: Storage) -> None:
    folder = open_location("gs://runs/out/dataset", gcs)
    record = (folder / "a/x").write_bytes(b"x" * 20_000_000)
    assert read_manifest(folder, "dataset") is None
    manifest = Manifest("dataset", "f", {}, {"a/x": record})
    publish(folder, manifest)
    assert read_manifest(folder, "dataset") == manifest
    sent = pickle.loads(pickle.dumps(folder))
    assert sent.filesystem is pickle.loads(pickle.dumps(folder)).filesystem  # opened once
    assert (sent / "a/x").record() == record
    begin(folder)
    assert read_manifest(folder, "dataset") is None
    assert folder.files() == []


@pytest.mark.processes
def test_a_folder_is_removed_whatever_was_deleted_in_the_meantime(gcs: Storage) -> None:
    """The store now and then answers that an object is gone which it has listed."""
    folder = open_location("gs://runs/out/progress", gcs)
    for _ in range(30):
        for number in range(6):
            (folder / f"step-{number % 3}/part-{number % 2}/manifest.json").write_bytes(b"{}")
        folder.remove()
        assert folder.files() == []


def _written_and_removed(endpoint: str, writer: int) -> int:
    """Files left of 40 that one of several processes writes below one folder; it removes ten again."""
    folder = open_location("gs://runs/together", Storage(endpoint=endpoint, anonymous=True, retries=1))
    for number in range(40):
        file = folder / f"{writer}/{number}"
        file.write_bytes(b"x" * 1000)
        if number % 4 == 0:
            file.remove()
    return len((folder / f"{writer}").files())


@pytest.mark.processes
def test_processes_that_write_at_once_lose_nothing(gcs: Storage) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_written_and_removed, [gcs.endpoint] * 3, range(3))) == [30, 30, 30]


@pytest.mark.processes
def test_an_upload_that_the_store_forgets_is_no_missing_file() -> None:
    def store(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Knows its bucket, and no upload."""
        is_bucket = environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"] == "/storage/v1/b/runs"
        start_response("200 OK" if is_bucket else "404 Not Found", [("Content-Type", "application/json")])
        return [b'{"kind": "storage#bucket", "name": "runs", "id": "runs"}' if is_bucket else b"{}"]

    with serving(store) as endpoint:
        file = open_location("gs://runs/x", Storage(endpoint=endpoint, anonymous=True, retries=0))
        with pytest.raises(
            StorageFault, match="gs://runs/x: found that the file disappeared while being written; "
        ):
            file.write_bytes(b"x")


@pytest.mark.processes
def test_a_file_of_the_store_is_downloaded_once_and_checked(gcs: Storage, tmp_path: Path) -> None:
    file = open_location("gs://runs/x.bin", gcs)
    record = file.write_bytes(os.urandom(3_000_000))
    local = file.localize(tmp_path, record)
    assert local.read_bytes() == file.read_bytes()
    stamp = local.stat().st_mtime_ns
    assert file.localize(tmp_path, record).stat().st_mtime_ns == stamp


def _refusal(status: int, text: str) -> object:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(f"{status} refused", [("Content-Type", "application/json")])
        return [text.encode()]

    return application


@pytest.mark.processes
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "found credentials that the storage does not know"),
        (403, "found no permission (storage."),
    ],
)
def test_refusals_of_a_store_are_one_message(status: int, message: str) -> None:
    answer = '{"error": {"code": %d, "message": "refused by the test"}}' % status  # noqa: UP031, braces
    with serving(_refusal(status, answer)) as endpoint:  # type: ignore[arg-type]
        file = open_location("gs://runs/x", Storage(endpoint=endpoint, anonymous=True, retries=0))
        for attempt in (file.read_bytes, lambda: file.write_bytes(b"x")):
            with pytest.raises(StorageError) as caught:
                attempt()
            assert str(caught.value).startswith("gs://runs/x: ")
            assert message in str(caught.value)


@pytest.mark.processes
def test_a_store_that_is_not_well_may_be_asked_again() -> None:
    with serving(_refusal(503, "{}")) as endpoint:  # type: ignore[arg-type]
        file = open_location("gs://runs/x", Storage(endpoint=endpoint, anonymous=True, retries=0))
        started = time.monotonic()
        with pytest.raises(StorageFault, match=r"nothing but refusals|no answer"):
            file.read_bytes()
        assert time.monotonic() - started < 60


@pytest.mark.processes
def test_a_store_that_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        dead = Storage(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", anonymous=True, retries=0)
        with pytest.raises(StorageFault, match="gs://runs/x: found no answer; the storage must answer"):
            open_location("gs://runs/x", dead).exists()


def test_credentials_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(StorageError, match=r"found no credentials; .*GOOGLE_APPLICATION_CREDENTIALS"):
        open_location("gs://runs/x", Storage(retries=0)).read_bytes()


@pytest.fixture
def web(s3_endpoint: str, s3: Storage) -> Location:
    """A folder of a web server: moto's, whose objects anybody may read over HTTP, also in ranges."""
    for name, content in {"a b.txt": b"hello world", "empty": b""}.items():
        client(s3_endpoint).put_object(Bucket="runs", Key=f"raw/{name}", Body=content, ACL="public-read")
    return open_location(f"{s3_endpoint}/runs/raw", Storage())


@pytest.mark.processes
def test_a_web_server_s_files_are_read(web: Location) -> None:
    file = web / "a b.txt"
    assert file.exists()
    assert file.read_bytes() == b"hello world"
    assert file.read_start(5) == b"hello"
    info = file.info()
    assert (info.type, info.size) == (pafs.FileType.File, 11)
    assert abs(info.mtime_ns / 1e9 - time.time()) < 3600
    assert (web / "empty").info().size == 0
    assert not (web / "none").exists()
    assert web.is_folder()
    web.look()
    assert pickle.loads(pickle.dumps(file)).read_bytes() == b"hello world"


@pytest.mark.processes
def test_tables_are_read_by_their_columns_over_http(web: Location, s3_endpoint: str) -> None:
    sink = pa.BufferOutputStream()
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.random(200_000), "b": rng.random(200_000)})
    pq.write_table(table, sink, row_group_size=50_000)
    client(s3_endpoint).put_object(
        Bucket="runs", Key="raw/t.parquet", Body=sink.getvalue().to_pybytes(), ACL="public-read"
    )
    file = web / "t.parquet"
    with pq.ParquetFile(file.path, filesystem=file.filesystem, pre_buffer=True) as parquet:
        assert parquet.read_row_group(2, ["b"])["b"].equals(table["b"].slice(100_000, 50_000))


@pytest.mark.processes
def test_a_web_server_lists_and_takes_nothing(web: Location) -> None:
    with pytest.raises(StorageError, match=r"a web server cannot list folders; wildcards are not supported"):
        web.files()
    with pytest.raises(StorageError, match=r"found http://; output must go to s3://, gs://"):
        (web / "x").write_bytes(b"x")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            200,
            "found the whole file where one byte was asked for; the server must support range requests",
        ),
        (401, "found credentials that the storage does not know"),
        (403, "found no permission"),
        (503, "found nothing but refusals (HTTP Error 503)"),
    ],
)
def test_a_web_server_that_refuses(status: int, message: str) -> None:
    with serving(_refusal(status, "some text")) as endpoint:  # type: ignore[arg-type]
        with pytest.raises(StorageError) as caught:
            open_location(f"{endpoint}/a.parquet", Storage()).info()
        assert message in str(caught.value)


@pytest.mark.processes
def test_a_web_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="found no answer"):
            open_location(f"http://127.0.0.1:{taken.getsockname()[1]}/a.csv", Storage()).info()
