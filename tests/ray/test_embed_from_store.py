"""An encoder whose weights lie in object storage: as moto plays S3, over HTTP, from Ray's processes too."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.embedding.embed import embed, identity
from mmssl_dist.embedding.inputs import embeddings_fingerprint, encoder_of
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Manifest
from tests.clusters import own_ray
from tests.encoders import WIDTH, tiny_pictures
from tests.jobs import make_job
from tests.pictures import PICTURES
from tests.servers import REGION, client, moto_with_permissions, upload

ITEMS = 6


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with the bucket models; Ray's processes have its keys, and downloads of this test alone."""
    with moto_with_permissions() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # the folder of this test is too long for a socket
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("downloads")))
        patch.setattr("tempfile.tempdir", None)
        client(started).create_bucket(Bucket="models")
        with own_ray():
            yield started


def job_of(folder: Path, encoder: str, output: str, endpoint: str) -> Job:
    image = {"table": "items.csv", "files": "images/{picture}", "encoder": encoder}
    return make_job(
        "data.interactions=clicks.csv",
        "data.buckets=2",
        output=str(folder / output),
        data={"path": str(folder / "raw"), "modalities": {"image": image}},
        storage={"endpoint": endpoint, "region": REGION, "path_style": True},
    )


def embedded(job: Job) -> tuple[Manifest, dict[int, list[float]]]:
    """What embed publishes, and the vector of each item."""
    manifest = embed(job, find_files(job), {"image": identity(encoder_of(job, "image"), job)})
    rows = [
        row
        for name in manifest.files
        if name.startswith("image")
        for row in pq.read_table(f"{job.output}/embeddings/{name}").to_pylist()
    ]
    return manifest, {row["item_id"]: row["vector"] for row in rows}


def write_raw(folder: Path) -> None:
    raw = folder / "raw"
    (raw / "images").mkdir(parents=True)
    pairs = [f"{user},{item}" for user in range(4) for item in range(ITEMS)]
    (raw / "clicks.csv").write_text("\n".join(["user_id,item_id", *pairs]) + "\n")
    formats = ("png", "jpeg")
    lines = ["item_id,picture"]
    for item in range(ITEMS):
        kind = formats[item % len(formats)]
        (raw / "images" / f"p{item}.{kind}").write_bytes(PICTURES[kind])
        lines.append(f"{item},p{item}.{kind}")
    (raw / "items.csv").write_text("\n".join(lines) + "\n")


def test_weights_from_a_store_are_those_of_the_folder(tmp_path, endpoint):
    write_raw(tmp_path)
    local = tiny_pictures(tmp_path / "clip")
    # Beside the safetensors, a pickle: it is neither downloaded nor loaded
    (local / "pytorch_model.bin").write_bytes(b"pickle")
    upload(endpoint, "models", local, "clip")
    theirs, expected = embedded(job_of(tmp_path, str(local), "out-1", endpoint))
    job = job_of(tmp_path, "s3://models/clip", "out-2", endpoint)
    ours, vectors = embedded(job)
    assert vectors == expected
    assert {len(vector) for vector in vectors.values()} == {WIDTH}
    assert len(vectors) == ITEMS
    facts = ours.facts["modalities"]["image"]
    assert facts["encoder"] == "s3://models/clip"
    assert facts["weights"] == theirs.facts["modalities"]["image"]["weights"]
    assert not list((tmp_path.parent / "downloads0").rglob("*.bin"))
    # A new item, and the same weights: it alone is embedded
    with (tmp_path / "raw/items.csv").open("a") as lines:
        lines.write(f"{ITEMS},p0.png\n")
    again, vectors = embedded(job)
    # In a batch of its own sums have another order
    np.testing.assert_allclose(vectors.pop(ITEMS), expected[0], rtol=1e-4, atol=1e-6)
    assert vectors == expected
    assert again.facts["modalities"]["image"]["embedded"] == 1
    # Other weights at the same place are another encoder
    before = embeddings_fingerprint(job, find_files(job))
    assert embeddings_fingerprint(job, find_files(job)) == before
    client(endpoint).put_object(Bucket="models", Key="clip/config.json", Body=b"{}")
    assert embeddings_fingerprint(job, find_files(job)) != before


def test_a_folder_of_a_store_with_pickles_alone_is_refused(tmp_path, endpoint):
    write_raw(tmp_path)
    for name in ("config.json", "pytorch_model.bin"):
        client(endpoint).put_object(Bucket="models", Key=f"pickled/{name}", Body=b"{}")
    with pytest.raises(InputError, match=r"s3://models/pickled/pytorch_model\.bin; weights are safetensors"):
        embedded(job_of(tmp_path, "s3://models/pickled", "out", endpoint))
