"""Credentials that only botocore's chain resolves: the same locations, through s3fs, and no key in what is
sent."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import StorageError
from mmssl_dist.storage import open_location

SECRET = "a-secret-that-must-not-show"


@pytest.fixture
def profiles(s3: Storage, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A configuration with a profile of each kind, and no keys in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "keys.py"
    keys = {
        "Version": 1,
        "AccessKeyId": "test",
        "SecretAccessKey": SECRET,
        "Expiration": "2099-01-01T00:00:00Z",
    }
    program.write_text(f"print({json.dumps(json.dumps(keys))})\n")
    (tmp_path / "config").write_text(
        f"[profile source]\naws_access_key_id = test\naws_secret_access_key = {SECRET}\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = source\n"
        f"[profile process]\ncredential_process = {sys.executable} {program}\n"
        "[profile broken]\ncredential_process = /bin/false\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_endpoint)
    return s3


@pytest.mark.parametrize("profile", ["role", "process"])
def test_a_location_reads_and_writes_with_them(
    profiles: Storage, profile: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", profile)
    folder = open_location("s3://runs/run", profiles)
    assert isinstance(folder.filesystem, pafs.PyFileSystem)
    assert folder.files() == []
    assert not (folder / "a").exists()
    record = (folder / "a/b.bin").write_bytes(b"hello" * 3_000_000)  # more than one piece
    assert (folder / "a").is_folder()
    assert [folder.relative(info) for info in folder.files()] == ["a/b.bin"]
    assert (folder / "a/b.bin").read_start(5) == b"hello"
    sent = pickle.dumps(folder / "a/b.bin")
    assert SECRET.encode() not in sent
    assert pickle.loads(sent).localize(tmp_path / "cache", record).stat().st_size == 15_000_000
    (folder / "c").write_bytes(b"")
    folder.remove()
    assert folder.files() == []
    with pytest.raises(StorageError, match=r"s3://runz/x: found no bucket runz"):
        open_location("s3://runz/x", profiles).files()


def test_keys_written_down_stay_with_pyarrow(profiles: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "source")
    folder = open_location("s3://runs/run", profiles)
    assert isinstance(folder.filesystem, pafs.S3FileSystem)
    (folder / "a").write_bytes(b"x")
    assert (folder / "a").read_bytes() == b"x"


def test_keys_in_the_environment_come_first(profiles: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "role")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert isinstance(open_location("s3://runs/run", profiles).filesystem, pafs.S3FileSystem)


def test_a_web_identity_is_assumed(
    profiles: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker")
    folder = open_location("s3://runs/run", profiles)
    assert isinstance(folder.filesystem, pafs.PyFileSystem)
    (folder / "a").write_bytes(b"x")
    assert (folder / "a").read_bytes() == b"x"


def test_a_profile_that_gives_no_credentials_says_so(
    profiles: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "broken")
    with pytest.raises(
        StorageError, match=r"found no credentials .*the standard credential chain must find some"
    ) as caught:
        open_location("s3://runs/run", profiles).look()
    assert caught.value.exit_status == 2
