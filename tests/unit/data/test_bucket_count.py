"""The number of buckets follows the size of the files, and far too few are refused before any is read."""

from __future__ import annotations

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.bucket_count import (
    bucket_count,
    needed_buckets,
    needed_for,
    require_buckets,
    with_buckets,
)
from mmssl_dist.data.files import RawFile, RawFiles, find_files
from mmssl_dist.data.fingerprint import dataset_fingerprint
from mmssl_dist.errors import InputError
from mmssl_dist.launch.preflight import check_data
from mmssl_dist.storage import open_location
from tests.jobs import make_job

GIB = 1 << 30


def files_of(interactions: int, features: int) -> RawFiles:
    location = open_location("/nowhere.csv", Storage())
    file, vectors = (
        RawFile(location=location, size=interactions, modified=None),
        RawFile(location=location, size=features, modified=None),
    )
    return RawFiles(interactions=(file, file), features={"image": (vectors,)}, titles=(), images=())


@pytest.mark.parametrize(
    ("interactions", "features", "buckets"),
    [(0, 0, 4), (GIB // 4, GIB, 4), (GIB // 2, 0, 8), (GIB // 2 + 1, 0, 9), (0, 25 * GIB, 100)],
)
def test_buckets_follow_the_files(interactions, features, buckets):
    assert needed_buckets(interactions, features) == buckets


def test_a_number_that_is_given_stays():
    files = files_of(5 * GIB // 4, GIB)
    assert needed_for(files) == 40
    auto, given = make_job(), make_job("data.buckets=7")
    assert bucket_count(with_buckets(auto, needed_for(files))) == 40
    assert bucket_count(with_buckets(given, needed_for(files))) == 7
    assert dataset_fingerprint(auto, files) == dataset_fingerprint(make_job("data.buckets=40"), files)
    assert dataset_fingerprint(auto, files) != dataset_fingerprint(given, files)


def test_parquet_and_compressed_files_hold_more_rows_than_text():
    for name, buckets in (("a.csv", 16), ("a.parquet", 64), ("a.csv.gz", 64)):
        file = RawFile(location=open_location(f"/{name}", Storage()), size=GIB, modified=None)
        assert needed_for(RawFiles(interactions=(file,), features={}, titles=(), images=())) == buckets


def test_far_too_few_are_refused_with_the_number_that_is_enough():
    files = files_of(4 * GIB, GIB)
    require_buckets(make_job(), files)
    require_buckets(make_job("data.buckets=4"), files)
    with pytest.raises(
        InputError, match=r"data\.buckets: found 3; .*need about 128.*Set it to 128, or to auto"
    ):
        require_buckets(make_job("data.buckets=3"), files)


def test_the_check_comes_before_reading(tmp_path):
    """Files without content, of which only the size is looked at."""
    for name in ("interactions.parquet", "image.npy"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(5 * GIB)  # takes no room on the disk
    data = {"path": str(tmp_path), "modalities": {"image": {"file": "image.npy"}}}
    job = make_job("data.buckets=2", data=data)
    assert needed_for(find_files(job)) == 320
    with pytest.raises(InputError, match=r"data\.buckets: found 2.*320"):
        check_data(job)
