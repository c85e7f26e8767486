"""The whole pipeline with raw files and every artifact on an S3 server, and on an emulator of Google's store,
over HTTP, as a Ray Job with two workers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import Location, open_location
from tests.clusters import SMALL_DATA, Head, started_head
from tests.servers import client, gcs_server, moto_server, upload

SECRET = "a-secret-that-must-not-show"
JOB = """\
output: {output}
seed: 3
data:
  path: {data}
  modalities:
    image: {{file: features/image}}
    text: {{file: features/text}}
partition: {{parts: 2}}
model: {{dimension: 8}}
training: {{epochs: 2, batch_size: 512, fanout: [3, 3]}}
evaluation: {{ks: [10, 20]}}
export: {{k: 5, table: {{path: {table}, format: {table_format}, date: 2026-11-30}}}}
scaling: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as started:
        client(started).create_bucket(Bucket="runs")
        yield started


@pytest.fixture(scope="module")
def bucket() -> Iterator[Location]:
    """A bucket of the emulator of Google's store."""
    with gcs_server("runs") as started:
        yield open_location("gs://runs", Storage(endpoint=started, anonymous=True))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Its machine has credentials, as cluster machines have; the submitting command is given none."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET}
    with started_head(variables=keys) as started:
        mine = {name: value for name, value in started.environment.items() if name not in keys}
        yield Head(started.address, started.gcs, mine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head, endpoint, bucket) -> Path:
    """The same job three times: on the local disk, and on the two servers."""
    path = tmp_path_factory.mktemp("job")
    made = head.command(path, "synthesize", "raw", *SMALL_DATA)
    assert made.returncode == 0, made.stderr
    upload(endpoint, "runs", path / "raw", "raw")
    (path / "local.yaml").write_text(JOB.format(output="out", data="raw", table="days", table_format="delta"))
    storage = f"storage: {{endpoint: '{endpoint}', region: us-east-1, path_style: true}}\n"
    s3 = JOB.format(
        output="s3://runs/out", data="s3://runs/raw", table="s3://runs/days", table_format="delta"
    )
    (path / "remote.yaml").write_text(s3 + storage)
    for file in sorted((path / "raw").rglob("*")):
        if file.is_file():
            (bucket / f"raw/{file.relative_to(path / 'raw')}").write_bytes(file.read_bytes())
    storage = f"storage: {{endpoint: '{bucket.storage.endpoint}', anonymous: true}}\n"
    google = JOB.format(
        output="gs://runs/out", data="gs://runs/raw", table="gs://runs/days", table_format="parquet"
    )
    (path / "google.yaml").write_text(google + storage)
    return path


@pytest.mark.timeout(900)  # three jobs, each a minute on two idle cores
def test_everything_in_object_storage_gives_what_the_local_disk_gives(head, folder, endpoint):
    local = head.command(folder, "submit", "local.yaml", "--address", head.address)
    assert local.returncode == 0, local.stdout + local.stderr
    remote = head.command(folder, "submit", "remote.yaml", "--address", head.address)
    assert remote.returncode == 0, remote.stdout + remote.stderr
    assert ": succeeded" in remote.stdout.splitlines()[-1]

    s3 = client(endpoint)
    names = [
        result["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="runs", Prefix="out/")
        for result in page["Contents"]
        if not result["Key"].endswith("/")
    ]
    content = {
        name.removeprefix("out/"): s3.get_object(Bucket="runs", Key=name)["Body"].read() for name in names
    }
    assert not [name for name in content if "probe" in name]
    for stage in ("dataset", "partitions", "training", "evaluation", "export"):
        ours = json.loads(content[f"{stage}/manifest.json"])
        theirs = json.loads((folder / "out" / stage / "manifest.json").read_text())
        assert (
            ours["files"].keys() == theirs["files"].keys() or stage == "training"
        )  # its folders tell the time
        assert all(
            len(content[f"{stage}/{name}"]) == record["bytes"] for name, record in ours["files"].items()
        )
        if stage in ("dataset", "partitions"):
            assert ours["files"] == theirs["files"]  # the same bytes

    ours, theirs = (
        json.loads(content["evaluation/metrics.json"]),
        json.loads((folder / "out/evaluation/metrics.json").read_text()),
    )
    for split in ("validation", "test"):
        assert ours[split] == pytest.approx(theirs[split], abs=1e-6)
    lists = [name for name in content if name.startswith("export/recommendations/")]
    assert sum(pq.read_table(io.BytesIO(content[name])).num_rows for name in lists) == 120
    # The table of the day: committed once, with five rows for each user
    days = [entry["Key"] for entry in s3.list_objects_v2(Bucket="runs", Prefix="days/")["Contents"]]
    assert [name for name in days if "_delta_log" in name] == [f"days/_delta_log/{0:020}.json"]
    rows = [s3.get_object(Bucket="runs", Key=name)["Body"].read() for name in days if "/date=2026" in name]
    assert sum(pq.read_table(io.BytesIO(data)).num_rows for data in rows) == 600
    assert len(DeltaTable(str(folder / "days")).to_pyarrow_table()) == 600

    output = remote.stdout + remote.stderr
    assert SECRET not in output
    assert [name for name, data in content.items() if SECRET.encode() in data] == []

    again = head.command(folder, "submit", "remote.yaml", "--address", head.address)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("up to date") == 6  # with the table


@pytest.mark.timeout(900)
def test_google_s_store_gives_what_the_local_disk_gives(head, folder, bucket):
    """Beside the job on the local disk, which the test above runs; a run again does nothing then."""
    local = head.command(folder, "submit", "local.yaml", "--address", head.address)
    assert local.returncode == 0, local.stdout + local.stderr
    google = head.command(folder, "submit", "google.yaml", "--address", head.address)
    assert google.returncode == 0, google.stdout + google.stderr
    for stage in ("dataset", "partitions"):
        ours = json.loads((bucket / "out" / stage / "manifest.json").read_bytes())
        theirs = json.loads((folder / "out" / stage / "manifest.json").read_text())
        assert ours["files"] == theirs["files"]  # the same bytes
    ours = json.loads((bucket / "out/evaluation/metrics.json").read_bytes())
    theirs = json.loads((folder / "out/evaluation/metrics.json").read_text())
    for split in ("validation", "test"):
        assert ours[split] == pytest.approx(theirs[split], abs=1e-6)
    assert not [info.path for info in bucket.files() if "probe" in info.path]
    day = [bucket / bucket.relative(info) for info in bucket.files() if "/days/date=2026-11-30/" in info.path]
    assert {"_SUCCESS", "_manifest.json"} < {file.path.rpartition("/")[2] for file in day}
    rows = [pq.read_table(io.BytesIO(f.read_bytes())) for f in day if f.path.endswith(".parquet")]
    assert sum(map(len, rows)) == 600
    assert not [info.path for info in bucket.files() if "_writing" in info.path]
