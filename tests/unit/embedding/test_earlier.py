"""Which files of the artifact before have items of a bucket, when the number of buckets has changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import ContentFiles, RawFile, RawFiles
from mmssl_dist.data.ids import buckets_of
from mmssl_dist.data.write import part
from mmssl_dist.embedding.inputs import with_content_buckets
from mmssl_dist.embedding.shards import Earlier
from mmssl_dist.storage import open_location
from tests.jobs import make_job

IDS = pa.array([f"item {number}" for number in range(2000)])


@pytest.mark.parametrize(
    ("before", "now", "files"), [(4, 4, 1), (4, 8, 1), (8, 4, 2), (6, 4, 3), (5, 4, 5), (1, 3, 1)]
)
def test_no_item_is_missed_and_few_files_are_read(tmp_path, before, now, files):
    location = open_location(str(tmp_path), Storage())
    earlier = Earlier(location, tuple(part("text/ab", bucket) for bucket in range(before)), before)
    old, new = (buckets_of(IDS, count).to_numpy() for count in (before, now))
    for bucket in range(now):
        read = {place.path for place in earlier.with_items_of(bucket, now)}
        assert read >= {(location / part("text/ab", number)).path for number in np.unique(old[new == bucket])}
        assert len(read) == files


@pytest.mark.parametrize(("gigabytes", "buckets"), [(0.1, 4), (1.25, 8), (7.5, 32), (8.25, 64)])
def test_buckets_of_content_are_a_power_of_two(tmp_path, gigabytes, buckets):
    location = open_location(str(tmp_path), Storage())
    file = RawFile(location=location / "items.csv", size=int(gigabytes * (1 << 30)), modified=None)
    raw = RawFiles(
        interactions=(), features={}, titles=(), images=(), content={"text": ContentFiles((file,), None)}
    )
    assert with_content_buckets(make_job("data.buckets=auto"), raw).data.buckets == buckets
    assert with_content_buckets(make_job("data.buckets=3"), raw).data.buckets == 3
