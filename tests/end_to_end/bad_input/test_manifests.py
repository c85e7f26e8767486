"""Published artifacts that are not what was published, on the way into the next stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import open_location, require_manifest
from tests.end_to_end.bad_input.damage import flipped, forged, gone, truncated
from tests.end_to_end.bad_input.matrix import Bench, Case, Spoil, named, patient

DATASET, PARTITIONS = "out/dataset/manifest.json", "out/partitions/manifest.json"
PARTITION = ("partition", "JOB", "--force", "--address", "RAY")
TRAIN = ("train", "JOB", "--force", "--address", "RAY")
SHARD, ARRAY = "out/dataset/users/part-00001.parquet", "out/partitions/part-00001/neighbours.npy"
NOT = "not a readable manifest"


def text(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def replaced(name: str, old: str, new: str) -> Spoil:
    def write(folder: Path) -> None:
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new))

    return write


def _names_outside(content: dict[str, Any]) -> None:
    content["files"]["../../raw/image.npy"] = next(iter(content["files"].values()))


CASES = [
    Case(
        name="a truncated manifest",
        message=f"{DATASET}: {NOT} (",
        command=PARTITION,
        spoil=truncated(DATASET),
        status=1,
    ),
    Case(
        name="a flipped bit in it",
        message=f"{DATASET}: {NOT} (its content is not what was written)",
        command=PARTITION,
        spoil=replaced(DATASET, '"users": 12', '"users": 13'),
        status=1,
    ),
    Case(
        name="no JSON",
        message=f"{DATASET}: {NOT} (Expecting value",
        command=PARTITION,
        spoil=text(DATASET, b"hello"),
        status=1,
    ),
    Case(
        name="no text",
        message=f"{DATASET}: {NOT} ('utf-8' codec can't decode",
        command=PARTITION,
        spoil=text(DATASET, b"{\xff"),
        status=1,
    ),
    Case(
        name="deep JSON",
        message=f"{DATASET}: {NOT} (maximum recursion depth",
        command=PARTITION,
        spoil=text(DATASET, b"[" * 100_000),
        status=1,
    ),
    Case(
        name="JSON of another shape",
        message=f"{DATASET}: {NOT} (",
        command=PARTITION,
        spoil=text(DATASET, b"[]"),
        status=1,
    ),
    Case(
        name="another schema",
        message=f"{DATASET}: {NOT} (expected a dataset manifest of schema 2)",
        command=PARTITION,
        spoil=forged(DATASET, lambda content: content.update(schema=99)),
        status=1,
    ),
    Case(
        name="another kind",
        message=f"{DATASET}: {NOT} (expected a dataset manifest of schema 2)",
        command=PARTITION,
        spoil=forged(DATASET, lambda content: content.update(kind="partitions")),
        status=1,
    ),
    Case(
        name="a file outside",
        message=f"{DATASET}: {NOT} (the file '../../raw/image.npy' is not below the artifact's folder)",
        command=PARTITION,
        spoil=forged(DATASET, _names_outside),
        status=1,
    ),
    Case(
        name="an absurd size",
        message="out/dataset/users/part-00001.parquet: ",
        command=PARTITION,
        spoil=forged(
            DATASET, lambda content: content["files"]["users/part-00001.parquet"].update(bytes=1 << 60)
        ),
        status=1,
    ),
    Case(
        name="an artifact of another job",
        message="out/dataset: found the dataset of other settings or inputs; a stage reads",
        command=PARTITION,
        spoil=forged(DATASET, lambda content: content.update(fingerprint="0" * 64)),
    ),
    Case(
        name="no manifest",
        message="out/dataset: found no manifest; the dataset must be published first",
        command=PARTITION,
        spoil=gone(DATASET),
    ),
    Case(name="a truncated shard", message=f"{SHARD}: ", command=PARTITION, spoil=truncated(SHARD), status=1),
    Case(
        name="a flipped bit in a shard",
        message=f"{SHARD}: content differs from its manifest (SHA-256)",
        command=PARTITION,
        spoil=flipped(SHARD),
        status=1,
    ),
    Case(
        name="a missing shard",
        message=f"{SHARD}: gone, though its manifest names it",
        command=PARTITION,
        spoil=gone(SHARD),
        status=1,
    ),
    Case(
        name="an absurd number of users",
        message="out/dataset/users: the indices are not 0 to 1099511627775",
        command=PARTITION,
        spoil=forged(DATASET, lambda content: content["facts"].update(users=1 << 40)),
        status=1,
    ),
    Case(
        name="a missing fact",
        message=f"{DATASET}: ",
        command=PARTITION,
        spoil=forged(DATASET, lambda content: content["facts"].pop("users")),
        status=1,
    ),
    Case(
        name="a flipped bit in a partition",
        message=f"{ARRAY}: content differs from its manifest (SHA-256)",
        command=TRAIN,
        spoil=flipped(ARRAY),
        status=1,
    ),
    Case(
        name="a missing part of a partition",
        message=f"{ARRAY}: gone, though its manifest names it",
        command=TRAIN,
        spoil=gone(ARRAY),
        status=1,
    ),
    Case(
        name="more parts than nodes",
        message="partition.parts: found 50; a part needs a node, and there are 12 users and 10 items",
        command=(*PARTITION, "--set", "partition.parts=50", "--set", "training.batch_size=64"),
    ),
]


@patient
@named(CASES)
def test_a_bad_artifact(bench: Bench, case: Case) -> None:
    bench.check(case)


def test_the_good_one_is_read(bench: Bench) -> None:
    bench.restore()
    forged(DATASET, lambda content: None)(bench.folder)
    location = open_location(f"{bench.folder}/out/dataset", Storage())
    assert require_manifest(location, "dataset", "prepare").facts["users"] == 12
