"""Paths that mean the same in every process, and an output that is tried before work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.errors import StorageError
from mmssl_dist.launch.preflight import check_output, resolved
from mmssl_dist.storage.paths import absolute
from tests.jobs import make_job


def test_local_paths_become_absolute_and_urls_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/people/somebody")
    assert absolute("raw/here") == f"{tmp_path}/raw/here"
    assert absolute("/raw") == "/raw"
    assert absolute("~/raw") == "/people/somebody/raw"
    assert absolute("s3://bucket/raw") == "s3://bucket/raw"
    job = resolved(make_job("output=s3://bucket/run"))
    assert (job.data.path, job.output) == (f"{tmp_path}/raw", "s3://bucket/run")


def test_writable_output_is_left_as_it_was(tmp_path):
    (tmp_path / "kept").write_text("x")
    check_output(make_job(f"output={tmp_path}"))
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StorageError, match=r"output: found .*it must be a folder that can be written"
    ) as caught:
        check_output(make_job(f"output={tmp_path}/file/run"))
    assert caught.value.exit_status == 2
    assert Path(tmp_path / "file").read_text() == "x"
