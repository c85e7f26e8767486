"""A run in object storage gives what the same run gives from a disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import mmssl_dist
from mmssl_dist.app import app
from mmssl_dist.errors import InputError
from tests.servers import REGION, client, moto_server, upload


@pytest.fixture(scope="module")
def endpoint(output):
    with moto_server() as started:
        client(started).create_bucket(Bucket="runs")
        for artifact in ("export", "partitions"):
            upload(started, "runs", output / artifact, f"out/{artifact}")
        yield started


@pytest.fixture(autouse=True)
def keys(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # downloads of this test alone
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.processes
def test_the_same_from_s3_as_from_the_disk(endpoint, run):
    storage = {"endpoint": endpoint, "region": REGION, "path_style": True}
    remote = mmssl_dist.open_run("s3://runs/out", storage=storage)
    assert remote.recommend("u4", k=6).items == run.recommend("u4", k=6).items
    assert remote.similar(104).items == run.similar(104).items
    assert remote.history("u4") == run.history("u4")
    np.testing.assert_array_equal(remote.user_embeddings, run.user_embeddings)
    assert remote.recommend_new([101, 102]).items == run.recommend_new([101, 102]).items
    with pytest.raises(InputError, match="the export must be published first"):
        mmssl_dist.open_run("s3://runs/elsewhere", storage=storage)


@pytest.mark.processes
def test_the_command_is_told_how_to_reach_it(endpoint, run):
    sets = [f"storage.endpoint={endpoint}", f"storage.region={REGION}", "storage.path_style=true"]
    options = [word for setting in sets for word in ("--set", setting)]
    done = CliRunner().invoke(app, ["recommend", "s3://runs/out", "--user", "u4", "--json", *options])
    assert done.exit_code == 0, done.stderr
    assert [setting["item"] for setting in json.loads(done.stdout)["items"]] == run.recommend("u4").items
