"""prepare and synthesize on a real Ray: every layout, the same bytes each time, bad input that changes
nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from mmssl_dist.config import parse_job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.prepare import dataset_fingerprint, prepare
from mmssl_dist.datasets.synthesize import synthesize
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location, read_manifest
from tests.clusters import own_ray
from tests.jobs import raw_job
from tests.release import write_release
from tests.servers import moto_server
from tests.unit.data.raw import vectors, write_matrix, write_table, write_text


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with own_ray(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test"):
        yield


def _read(job, name):
    return pq.read_table(Path(job.output) / "dataset" / name)


def _external(job, split):
    """The split's interactions as pairs of external ids, sorted."""
    users = dict(zip(*_read(job, "users").select(["user", "user_id"]).to_pydict().values(), strict=True))
    items = dict(zip(*_read(job, "items").select(["item", "item_id"]).to_pydict().values(), strict=True))
    table = _read(job, f"interactions/{split}").to_pydict()
    return sorted((users[user], items[item]) for user, item in zip(table["user"], table["item"], strict=True))


def _features(job, modality):
    """Vectors by external item id."""
    items = dict(zip(*_read(job, "items").select(["item", "item_id"]).to_pydict().values(), strict=True))
    table = _read(job, f"features/{modality}").to_pydict()
    return {items[item]: vector for item, vector in zip(table["item"], table["vector"], strict=True)}


def _fails(job):
    dataset = open_location(job.output, job.storage) / "dataset"
    before = read_manifest(dataset, "dataset")
    with pytest.raises(InputError) as caught:
        prepare(job, find_files(job))
    assert type(caught.value) is InputError
    assert read_manifest(dataset, "dataset") == before
    return str(caught.value).replace(job.data.path, "raw")


def _grid(users, items):
    """Every user with every item, in columns."""
    return {
        "user_id": [f"u{u}" for u in range(users) for _ in range(items)],
        "item_id": list(range(items)) * users,
    }


def test_the_layout_of_the_release(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    release = write_release(raw, users=400, items=150, seed=2)
    job = parse_job(
        {
            "output": str(tmp_path),
            "data": {
                "path": str(raw),
                "layout": "mmssl",
                "split": {"method": "given"},
                "modalities": {"image": {"file": "image_feat.npy"}, "audio": {"file": "audio_feat.npy"}},
            },
        }
    )
    manifest = prepare(job, find_files(job))
    expected = {
        "users": 400,
        "items": 150,
        "interactions": {split: len(pairs) for split, pairs in release.pairs.items()},
        "modalities": {
            "image": {"dimension": 32, "items": 150},
            "audio": {"dimension": 16, "items": 150},
        },
        "user_id_type": "int64",
        "item_id_type": "int64",
        "dropped": {
            "null_id": 0,
            "below_min_rating": 0,
            "outside_window": 0,
            "below_min_events": 0,
            "duplicate": 0,
            "below_min_interactions": 0,
            "items_below_min_interactions": 0,
            "unknown_item": 0,
        },
    }
    assert {name: manifest.facts[name] for name in expected} == expected
    assert manifest.fingerprint == dataset_fingerprint(job, find_files(job))
    assert read_manifest(open_location(job.output, job.storage) / "dataset", "dataset") == manifest
    for name, record in manifest.files.items():
        content = (tmp_path / "dataset" / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (record.bytes, record.sha256)
    table = _read(job, "features/image")
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 32)
    item_ids = _read(job, "items").sort_by("item")["item_id"].to_numpy()
    vectors_ = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 32)
    np.testing.assert_array_equal(vectors_, release.features["image"][item_ids[table["item"].to_numpy()]])
    assert sorted(_read(job, "users")["user"].to_pylist()) == list(range(400))
    assert _external(job, "train") == sorted(release.pairs["train"])
    assert _external(job, "test") == sorted(release.pairs["test"])


def test_one_table_with_text_ids_and_items_that_lack_a_modality(tmp_path):
    write_table(
        tmp_path,
        "interactions.parquet",
        user_id=["b", "b", "a", "a", None, "b"],
        item_id=["x", "y", "x", "z", "x", "x"],
        part=[0, 2, 0, 1, 0, 1],
    )
    write_table(
        tmp_path, "image.parquet", item_id=["x", "cold"], vector=vectors([[1, 2], [3, 4]], pa.float16())
    )
    write_table(tmp_path, "text/0.parquet", item_id=["z", "x"], vector=vectors([[5], None]))
    write_table(tmp_path, "text/1.parquet", item_id=["y"], vector=vectors([[6]]))
    job = raw_job(
        tmp_path,
        modalities={"image": "image.parquet", "text": "text"},
        columns={"split": "part"},
        split={"method": "given"},
    )
    facts = prepare(job, find_files(job)).facts
    assert (facts["users"], facts["items"]) == (2, 4)
    assert facts["modalities"] == {
        "image": {"dimension": 2, "items": 2},
        "text": {"dimension": 1, "items": 2},
    }
    assert (facts["user_id_type"], facts["item_id_type"]) == ("string", "string")
    assert facts["dropped"]["null_id"] == facts["dropped"]["duplicate"] == 1
    assert _external(job, "train") == [
        ("a", "x"),
        ("b", "x"),
    ]  # b's x of the validation repeats the one in training
    assert (_external(job, "validation"), _external(job, "test")) == ([("a", "z")], [("b", "y")])
    assert _features(job, "image") == {"x": [1, 2], "cold": [3, 4]}
    assert _features(job, "text") == {"z": [5], "y": [6]}
    assert _read(job, "features/image").schema.field("vector").type == pa.list_(pa.float16(), 2)
    assert _read(job, "features/text").schema.field("vector").type == pa.list_(pa.float32(), 1)


def test_inter_and_one_matrix(tmp_path):
    rows = [
        f"{user}\t{item}\t5.0\t{item}\t{0 if item < 3 else item - 2}"
        for user in range(3)
        for item in range(5)
    ]
    write_text(tmp_path, "baby.inter", ["userID\titemID\trating\ttimestamp\tx_label", *rows])
    write_matrix(tmp_path, "image.npy", np.arange(14, dtype=np.float64).reshape(7, 2))
    job = raw_job(tmp_path, layout="inter", modalities={"image": "image.npy"}, split={"method": "given"})
    facts = prepare(job, find_files(job)).facts
    assert (facts["items"], facts["interactions"]) == (7, {"train": 9, "validation": 3, "test": 3})
    assert _external(job, "test") == [(0, 4), (1, 4), (2, 4)]
    assert _features(job, "image") == {item: [2 * item, 2 * item + 1] for item in range(7)}
    late = raw_job(
        tmp_path, layout="inter", modalities={"image": "image.npy"}, split={"method": "leave_last_out"}
    )
    prepare(late, find_files(late))
    assert _external(late, "test") == [(0, 4), (1, 4), (2, 4)]
    assert _external(late, "validation") == [(0, 3), (1, 3), (2, 3)]


def test_csv_by_time(tmp_path):
    times = np.random.default_rng(0).permutation(40)
    lines = [f"u{n % 4},{n // 4},{times[n]}" for n in range(40)]
    write_text(tmp_path, "log.csv", ["user_id,item_id,at", *lines])
    write_matrix(tmp_path, "image.npy", np.ones((10, 1), np.float32))
    job = raw_job(
        tmp_path,
        interactions="log.csv",
        modalities={"image": "image.npy"},
        columns={"time": "at"},
        split={"method": "temporal", "validation": 0.25, "test": 0.1},
    )
    assert prepare(job, find_files(job)).facts["interactions"] == {"train": 26, "validation": 10, "test": 4}
    by_time = {time: (f"u{n % 4}", n // 4) for n, time in enumerate(times)}
    assert _external(job, "train") == sorted(by_time[time] for time in range(26))
    assert _external(job, "test") == sorted(by_time[time] for time in range(36, 40))


def test_the_same_bytes_in_any_order_of_blocks_and_with_either_shuffle(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, [60, 40], (1500, 2))
    image = vectors(rng.random((40, 3)).tolist())
    outputs = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        shuffled = pairs if attempt < 2 else pairs[rng.permutation(len(pairs))]
        for number, block in enumerate(np.array_split(shuffled, 1 if attempt == 0 else 5)):
            write_table(folder, f"log/{number}.parquet", user_id=block[:, 0], item_id=block[:, 1])
        write_table(folder, "image.parquet", item_id=np.arange(40), vector=image)
        if attempt == 1:
            monkeypatch.setattr(
                "mmssl_dist.data.runtime.SMALL_BYTES", 0
            )  # Ray's default shuffle, for large inputs
        job = raw_job(folder, interactions="log", seed=3)
        manifest = prepare(job, find_files(job))
        monkeypatch.undo()
        outputs.append((manifest.facts, manifest.files))
    assert outputs[0][0]["dropped"]["duplicate"] == len(pairs) - len({tuple(pair) for pair in pairs.tolist()})
    assert outputs[0] == outputs[1] == outputs[2]


def test_ratio_draws_by_the_seed_and_splits_partition_the_pairs(tmp_path):
    write_table(tmp_path, "interactions.parquet", **_grid(30, 20))
    write_table(tmp_path, "image.parquet", item_id=range(20), vector=vectors([[1.0]] * 20))
    seen = []
    for seed in (0, 1):
        job = raw_job(tmp_path, seed=1 - seed, split={"validation": 0.1, "test": 0.2, "seed": seed})
        counts = prepare(job, find_files(job)).facts["interactions"]
        assert counts == {"train": 420, "validation": 60, "test": 120}
        parts = [_external(job, split) for split in ("train", "validation", "test")]
        assert sorted(pair for part in parts for pair in part) == sorted(
            zip(*_grid(30, 20).values(), strict=True)
        )
        assert set(Counter(user for user, _ in parts[2]).values()) == {4}
        seen.append(parts)
    assert seen[0] != seen[1]


def test_k_core_repeats_until_nothing_changes(tmp_path):
    """A 2-core square of users a, b and items 0, 1, and a chain that falls apart one link at a time."""
    pairs = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 1), ("c", 1), ("c", 2), ("d", 2), ("d", 3)]
    write_table(
        tmp_path, "interactions.parquet", user_id=[u for u, _ in pairs], item_id=[i for _, i in pairs]
    )
    write_table(tmp_path, "image.parquet", item_id=range(6), vector=vectors([[float(i)] for i in range(6)]))
    job = raw_job(tmp_path, min_interactions=2, split={"validation": 0.0, "test": 0.0})
    facts = prepare(job, find_files(job)).facts
    assert (facts["users"], facts["items"]) == (2, 2)
    assert facts["dropped"] == {
        "null_id": 0,
        "below_min_rating": 0,
        "outside_window": 0,
        "below_min_events": 0,
        "duplicate": 1,
        "below_min_interactions": 4,
        "items_below_min_interactions": 4,
        "unknown_item": 0,
    }
    assert _external(job, "train") == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert _features(job, "image") == {0: [0], 1: [1]}
    assert "no interactions; 8 dropped by data.min_interactions" in _fails(
        raw_job(tmp_path, min_interactions=3)
    )


def test_bad_input_is_one_error_and_leaves_what_was_published(tmp_path):
    write_table(tmp_path, "interactions.parquet", **_grid(4, 6))
    matrix = np.zeros((6, 2), np.float32)
    write_matrix(tmp_path, "image.npy", matrix)
    job = raw_job(tmp_path, modalities={"image": "image.npy"})
    prepare(job, find_files(job))
    write_matrix(tmp_path, "image.npy", matrix[:5])
    assert _fails(job) == (
        "data.unknown_items: found 1 item(s) without features, in 4 interaction(s): 5 "
        "(raw/interactions.parquet, row 5); every item needs features, in raw/image.npy "
        "(ids are its row numbers, 0 to 4). Add the features, or set data.unknown_items: drop leaves these "
        "interactions out, keep lets the items take part, known by their interactions alone."
    )
    matrix[4, 1] = np.nan
    write_matrix(tmp_path, "image.npy", matrix)
    assert _fails(job) == (
        "raw/image.npy, row 4: found nan in column 1; features are finite numbers of type float32. "
        "Replace the value."
    )
    write_table(tmp_path, "image.parquet", item_id=range(1, 6), vector=vectors([[1.0]] * 5))
    message = _fails(raw_job(tmp_path))
    assert (
        "found 1 item(s) without features, in 4 interaction(s): 0 (raw/interactions.parquet, row 0)"
        in message
    )


def test_empty_splits_are_refused(tmp_path):
    write_table(tmp_path, "interactions.parquet", user_id=["a", "b"], item_id=[0, 1], at=[1, 1], part=[0, 2])
    write_table(tmp_path, "image.parquet", item_id=range(2), vector=vectors([[1.0]] * 2))
    assert _fails(raw_job(tmp_path, columns={"split": "part"}, split={"method": "given"})) == (
        "data.split: found no validation interactions with method given; the validation split may "
        "not be empty. "
        "Choose another method or share, or add data."
    )
    assert "found no train interactions with method temporal" in _fails(
        raw_job(tmp_path, columns={"time": "at"}, split={"method": "temporal"})
    )
    write_table(
        tmp_path, "interactions.parquet", user_id=pa.array([], pa.string()), item_id=pa.array([], pa.int64())
    )
    assert "raw/interactions.parquet: found no interactions; there must be something to train on" in _fails(
        raw_job(tmp_path)
    )


def test_object_storage_holds_the_same_dataset(tmp_path):
    write_table(tmp_path, "interactions.parquet", **_grid(5, 20))
    write_table(tmp_path, "image.parquet", item_id=range(20), vector=vectors([[1.0]] * 20))
    local = raw_job(tmp_path)
    with moto_server() as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="data")
        for name in ("interactions.parquet", "image.parquet"):
            client.upload_file(str(tmp_path / "raw" / name), "data", f"raw/{name}")
        tree = local.model_dump(mode="json") | {"output": "s3://data/run"}
        tree["data"]["path"] = "s3://data/raw"
        tree["storage"] = {"endpoint": endpoint, "region": "us-east-1", "path_style": True}
        remote = parse_job(tree)
        manifest = prepare(remote, find_files(remote))
        assert manifest.files == prepare(local, find_files(local)).files
        assert read_manifest(open_location(remote.output, remote.storage) / "dataset", "dataset") == manifest


def test_synthetic_data_can_be_prepared(tmp_path):
    job = raw_job(tmp_path, modalities={"image": "features/image", "text": "features/text"})
    raw = open_location(job.data.path, job.storage)
    sizes = {
        "users": 300,
        "items": 120,
        "interactions": 3000,
        "modalities": {"image": 8, "text": 4},
        "seed": 1,
    }
    facts = synthesize(raw, **sizes, shards=3)
    assert len(list((tmp_path / "raw" / "interactions.parquet").iterdir())) == facts["shards"] == 3
    assert abs(facts["interactions"] / 3000 - 1) < 0.05
    table = pq.read_table(tmp_path / "raw" / "interactions.parquet")
    assert table.schema.types == [pa.string(), pa.int64(), pa.int64()]
    assert table["user_id"][0].as_py() == "u000"
    prepared = prepare(job, find_files(job)).facts
    assert (prepared["users"], prepared["items"]) == (300, 120)
    assert sum(prepared["interactions"].values()) == facts["interactions"] == table.num_rows
    assert prepared["dropped"]["duplicate"] == 0
    assert prepared["modalities"]["text"] == {"dimension": 4, "items": 120}
    synthesize(raw, **sizes, shards=3)
    assert pq.read_table(tmp_path / "raw" / "interactions.parquet").equals(table)


def test_a_ray_of_this_machine_starts_none_of_ray_data_s_actors(tmp_path):
    write_table(tmp_path, "interactions.parquet", **_grid(30, 20))
    write_table(tmp_path, "image.parquet", item_id=range(20), vector=vectors([[1.0]] * 20))
    job = raw_job(tmp_path)
    before = _actors()
    prepare(job, find_files(job))
    assert _actors() == before
    ray.data.range(8).materialize()  # outside prepare Ray Data is as it always is
    assert _actors()["_StatsActor"]


def _actors():
    """Class names of all actors there have been."""
    return Counter(actor["ActorClassName"] for actor in ray._private.state.actors().values())
