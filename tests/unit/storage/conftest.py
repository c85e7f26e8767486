"""An S3 server on the loopback interface: moto's, spoken to over HTTP by the real clients."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import open_location
from tests.servers import gcs_server, moto_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with gcs_server("runs") as endpoint:
        yield endpoint


@pytest.fixture
def gcs(gcs_endpoint: str) -> Iterator[Storage]:
    """The ``storage`` section for an emulator of Google's store with one empty bucket, ``runs``."""
    storage = Storage(endpoint=gcs_endpoint, anonymous=True, retries=1)
    yield storage
    bucket = open_location("gs://runs", storage)
    for info in bucket.files():
        bucket.filesystem.delete_file(info.path)


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The ``storage`` section for a server with one empty bucket, ``runs``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="runs")
    yield Storage(endpoint=s3_endpoint, region="us-east-1", path_style=True, retries=1)
    for result in client.list_objects_v2(Bucket="runs").get("Contents", []):
        client.delete_object(Bucket="runs", Key=result["Key"])
    client.delete_bucket(Bucket="runs")
