"""Paths that mean the same in every process, and an output that is tried before work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.errors import InputError, StorageError
from mmssl_dist.launch.preflight import (
    check_data,
    check_local_folder,
    check_output,
    check_output_folder,
    resolved,
)
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


def test_a_file_of_users_that_a_stage_would_remove_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("interactions.parquet", "image.npy"):
        (tmp_path / "raw" / name).touch()
    users = tmp_path / "out/export/users.csv"
    users.parent.mkdir(parents=True)
    users.write_text("user_id\n1\n")
    data = {"path": str(tmp_path / "raw"), "modalities": {"image": {"file": "image.npy"}}}
    job = make_job(f"output={tmp_path}/out", f"export.users={users}", data=data)
    with pytest.raises(InputError, match=r"export\.users: .*output/export is emptied by its stage"):
        check_data(job)


@pytest.mark.parametrize("output", ["/proc/out", "/sys/kernel/out", "/proc/self/fd/out/deeper"])
def test_an_output_among_the_kernels_files_is_refused_without_a_trace(output):
    with pytest.raises(StorageError, match=r"output: found .*it must be a folder that can be written \("):
        check_output_folder(make_job(f"output={output}"))


def test_a_folder_below_a_file_is_refused_under_its_setting_without_a_trace(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"^export\.table\.path: found .*Not a directory"):
        check_local_folder(f"{tmp_path}/file/lists", make_job().storage, "export.table.path")
    check_local_folder(f"{tmp_path}/lists", make_job().storage, "export.table.path")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
