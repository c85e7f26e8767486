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
    Case("a truncated manifest", f"{DATASET}: {NOT} (", PARTITION, truncated(DATASET), status=1),
    Case(
        "a flipped bit in it",
        f"{DATASET}: {NOT} (its content is not what was written)",
        PARTITION,
        replaced(DATASET, '"users": 12', '"users": 13'),
        status=1,
    ),
    Case("no JSON", f"{DATASET}: {NOT} (Expecting value", PARTITION, text(DATASET, b"hello"), status=1),
    Case(
        "no text",
        f"{DATASET}: {NOT} ('utf-8' codec can't decode",
        PARTITION,
        text(DATASET, b"{\xff"),
        status=1,
    ),
    Case(
        "deep JSON",
        f"{DATASET}: {NOT} (maximum recursion depth",
        PARTITION,
        text(DATASET, b"[" * 100_000),
        status=1,
    ),
    Case("JSON of another shape", f"{DATASET}: {NOT} (", PARTITION, text(DATASET, b"[]"), status=1),
    Case(
        "another schema",
        f"{DATASET}: {NOT} (expected a dataset manifest of schema 2)",
        PARTITION,
        forged(DATASET, lambda content: content.update(schema=99)),
        status=1,
    ),
    Case(
        "another kind",
        f"{DATASET}: {NOT} (expected a dataset manifest of schema 2)",
        PARTITION,
        forged(DATASET, lambda content: content.update(kind="partitions")),
        status=1,
    ),
    Case(
        "a file outside",
        f"{DATASET}: {NOT} (the file '../../raw/image.npy' is not below the artifact's folder)",
        PARTITION,
        forged(DATASET, _names_outside),
        status=1,
    ),
    Case(
        "an absurd size",
        "out/dataset/users/part-00001.parquet: ",
        PARTITION,
        forged(DATASET, lambda content: content["files"]["users/part-00001.parquet"].update(bytes=1 << 60)),
        status=1,
    ),
    Case(
        "an artifact of another job",
        "out/dataset: found the dataset of other settings or inputs; a stage reads",
        PARTITION,
        forged(DATASET, lambda content: content.update(fingerprint="0" * 64)),
    ),
    Case(
        "no manifest",
        "out/dataset: found no manifest; the dataset must be published first",
        PARTITION,
        gone(DATASET),
    ),
    Case("a truncated shard", f"{SHARD}: ", PARTITION, truncated(SHARD), status=1),
    Case(
        "a flipped bit in a shard",
        f"{SHARD}: content differs from its manifest (SHA-256)",
        PARTITION,
        flipped(SHARD),
        status=1,
    ),
    Case("a missing shard", f"{SHARD}: gone, though its manifest names it", PARTITION, gone(SHARD), status=1),
    Case(
        "an absurd number of users",
        "out/dataset/users: the indices are not 0 to 1099511627775",
        PARTITION,
        forged(DATASET, lambda content: content["facts"].update(users=1 << 40)),
        status=1,
    ),
    Case(
        "a missing fact",
        f"{DATASET}: ",
        PARTITION,
        forged(DATASET, lambda content: content["facts"].pop("users")),
        status=1,
    ),
    Case(
        "a flipped bit in a partition",
        f"{ARRAY}: content differs from its manifest (SHA-256)",
        TRAIN,
        flipped(ARRAY),
        status=1,
    ),
    Case(
        "a missing part of a partition",
        f"{ARRAY}: gone, though its manifest names it",
        TRAIN,
        gone(ARRAY),
        status=1,
    ),
    Case(
        "more parts than nodes",
        "partition.parts: found 50; a part needs a node, and there are 12 users and 10 items",
        (*PARTITION, "--set", "partition.parts=50", "--set", "training.batch_size=64"),
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
