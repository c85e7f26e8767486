"""Object storage that refuses: in seconds, exit status 2, and a message that names the setting and what is
missing."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from tests.servers import (
    Refusal,
    client,
    moto_server,
    moto_with_permissions,
    refusing_server,
    require_permissions,
    upload,
)

SECONDS = 20


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory) -> Iterator[str]:
    """A server with the raw files of a job in one bucket, and an empty one for its output."""
    raw = tmp_path_factory.mktemp("raw")
    pq.write_table(pa.table({"user_id": [1, 2], "item_id": [0, 1]}), raw / "interactions.parquet")
    np.save(raw / "image.npy", np.zeros((2, 3), np.float32))
    with moto_server() as started:
        s3 = client(started)
        for bucket in ("raw", "runs"):
            s3.create_bucket(Bucket=bucket)
            for result in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                s3.delete_object(
                    Bucket=bucket, Key=result["Key"]
                )  # moto keeps what other tests of this process left
        upload(started, "raw", raw, "data")
        yield started


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-show")


def _run(folder: Path, endpoint: str, *sets: str) -> str:
    """What `run` says, refusing before any work."""
    (folder / "job.yaml").write_text(
        "output: s3://runs/out\ndata: {path: s3://raw/data, modalities: {image: {file: image.npy}}}\n"
        f"storage: {{endpoint: '{endpoint}', region: us-east-1, path_style: true}}\n"
    )
    started = time.monotonic()
    options = (part for each in sets for part in ("--set", each))
    done = CliRunner().invoke(app, ["run", str(folder / "job.yaml"), *options])
    assert done.exit_code == 2, done.output
    assert time.monotonic() - started < SECONDS
    assert "Traceback" not in done.output
    assert "a-secret" not in done.output
    return str(done.output)


@pytest.mark.processes
@pytest.mark.parametrize(("setting", "url"), [("data.path", "s3://rwa/data"), ("output", "s3://rnus/out")])
def test_a_bucket_that_is_not_there(tmp_path, endpoint, setting, url):
    bucket = url.split("/")[2]
    message = _run(tmp_path, endpoint, f"{setting}={url}")
    assert f"error: {setting} ({url}): found no bucket {bucket}; the bucket must exist" in message


@pytest.mark.processes
def test_raw_files_that_are_not_there(tmp_path, endpoint):
    assert "data.path: found s3://raw/dta; the folder must exist" in _run(
        tmp_path, endpoint, "data.path=s3://raw/dta"
    )


def _names(key: str):
    return lambda path: key in path


@pytest.mark.processes
@pytest.mark.parametrize(
    ("refusal", "setting", "permission", "bucket"),
    [
        (
            Refusal(status=403, code="AccessDenied", methods=("GET",), matches=_names("raw?")),
            "data.path (s3://raw/data)",
            "s3:ListBucket",
            "raw",
        ),
        (
            Refusal(
                status=403, code="AccessDenied", methods=("GET", "HEAD"), matches=_names("/raw/data/inter")
            ),
            "data.path (s3://raw/data/interactions.parquet)",
            "s3:GetObject",
            "raw",
        ),
        (
            Refusal(status=403, code="AccessDenied", methods=("GET",), matches=_names("runs?")),
            "output (s3://runs/out)",
            "s3:ListBucket",
            "runs",
        ),
        (
            Refusal(
                status=403, code="AccessDenied", methods=("PUT", "POST"), matches=_names("runs/out/.probe")
            ),
            "output (s3://runs/out)",
            "s3:PutObject",
            "runs",
        ),
        (
            Refusal(
                status=403, code="AccessDenied", methods=("GET", "HEAD"), matches=_names("runs/out/.probe")
            ),
            "output (s3://runs/out)",
            "s3:GetObject",
            "runs",
        ),
        (
            Refusal(status=403, code="AccessDenied", methods=("DELETE",), matches=_names("runs/out/.probe")),
            "output (s3://runs/out)",
            "s3:DeleteObject",
            "runs",
        ),
    ],
    ids=["list raw", "read raw", "list output", "write output", "read output", "delete output"],
)
def test_a_missing_permission_is_named(tmp_path, endpoint, refusal, setting, permission, bucket):
    with refusing_server(refusal, otherwise_moto=True) as proxy:
        message = _run(tmp_path, proxy)
    assert (
        f"error: {setting}: found no permission ({permission}); the credentials in use must have "
        f"{permission} on "
        f"bucket {bucket}. Grant it"
    ) in message
    s3 = client(endpoint)
    for result in s3.list_objects_v2(Bucket="runs").get("Contents", []):
        assert (
            permission in ("s3:DeleteObject", "s3:GetObject") or result["Key"] == "out/"
        )  # refused when cleaning up
        s3.delete_object(Bucket="runs", Key=result["Key"])


@pytest.mark.processes
def test_what_a_policy_does_not_allow_is_named(tmp_path, monkeypatch):
    """Signed requests of users whose policies the server knows and checks."""
    actions = {"ListBucket", "GetObject", "PutObject", "DeleteObject"}
    with moto_with_permissions() as endpoint:
        s3, iam = client(endpoint), client(endpoint, "iam")
        raw = tmp_path / "raw"
        raw.mkdir()
        np.save(raw / "image.npy", np.zeros((2, 3), np.float32))
        pq.write_table(pa.table({"user_id": [1, 2], "item_id": [0, 1]}), raw / "interactions.parquet")
        for bucket in ("raw", "runs"):
            s3.create_bucket(Bucket=bucket)
        upload(endpoint, "raw", raw, "data")
        keys = {}
        for missing in actions:
            allowed = [f"s3:{action}" for action in actions - {missing}]
            policy = {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}],
            }
            iam.create_user(UserName=missing)
            iam.put_user_policy(UserName=missing, PolicyName="some", PolicyDocument=json.dumps(policy))
            keys[missing] = iam.create_access_key(UserName=missing)["AccessKey"]
        require_permissions(endpoint)
        for missing, key in keys.items():
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
            message = _run(tmp_path, endpoint)
            assert f"found no permission (s3:{missing})" in message
            assert key["SecretAccessKey"] not in message
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        assert "found credentials that the storage does not know" in _run(tmp_path, endpoint)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            Refusal(status=400, code="ExpiredToken"),
            "found expired credentials; credentials must be valid now. Renew them",
        ),
        (Refusal(status=403, code="ExpiredToken"), "found expired credentials"),
        (Refusal(status=403, code="InvalidAccessKeyId"), "found credentials that the storage does not know"),
        (
            Refusal(status=403, code="SignatureDoesNotMatch"),
            "found credentials that the storage does not know",
        ),
        (
            Refusal(status=301, code="PermanentRedirect", region="eu-west-1"),
            "found bucket raw in the region eu-west-1; storage.region must be the region of the bucket. "
            "Set storage.region to eu-west-1",
        ),
        (
            Refusal(status=400, code="AuthorizationHeaderMalformed", region="eu-west-1"),
            "found bucket raw in the region eu-west-1",
        ),
        (Refusal(status=301, code="PermanentRedirect"), "found bucket raw in another region"),
    ],
    ids=["expired", "expired 403", "unknown key", "wrong secret", "region", "region 400", "unnamed region"],
)
def test_credentials_and_regions(tmp_path, refusal, message):
    with refusing_server(refusal) as server:
        assert f"error: data.path (s3://raw/data): {message}" in _run(tmp_path, server)


@pytest.mark.processes
def test_an_endpoint_where_nothing_listens(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        message = _run(tmp_path, endpoint)
    assert f"error: storage.endpoint: found {endpoint}; a server must answer there" in message


@pytest.mark.processes
def test_a_server_that_takes_connections_and_says_nothing(tmp_path):
    """Not in seconds, but bounded: the time of one read times the attempts."""
    from mmssl_dist.storage import s3

    with socket.socket() as silent, pytest.MonkeyPatch.context() as patch:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        patch.setattr(s3, "_READ_SECONDS", 1.0)
        message = _run(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", "storage.retries=1")
    assert "data.path (s3://raw/data): found no answer; the storage must answer" in message


@pytest.mark.processes
def test_a_profile_that_is_not_there(tmp_path, endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert "error: AWS_PROFILE: found nobody; it must name a profile" in _run(tmp_path, endpoint)
