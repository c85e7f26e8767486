from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmssl_dist.config.job import Job
from mmssl_dist.errors import ArtifactError, InputError, MmsslError
from mmssl_dist.graph.metis import metis, metis_environment
from mmssl_dist.graph.partition import partition, partitions_fingerprint
from mmssl_dist.graph.partition_files import load_ids, load_partition, read_book
from mmssl_dist.storage import Manifest, read_manifest
from tests.artifacts import write_dataset
from tests.oracle import reference as oracle
from tests.unit.graph.conftest import COLD_ITEM, COLD_USER, HELD_OUT, ITEMS, USERS, features, training_pairs
from tests.unit.graph.published_partitions import dense_truth, load_all, location, names_by_node, rows_by_name

MakeJob = Callable[..., Job]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("method", "parts", "standardized"),
    [
        ("metis", 4, True),
        ("streaming", 4, True),
        ("random", 4, True),
        ("random", 4, False),
        ("metis", 1, True),
        ("metis", 1, False),
    ],
)
def test_propagated_rows_are_the_dense_towers(
    dataset: Manifest, partition_job: MakeJob, method: str, parts: int, standardized: bool
) -> None:
    job = partition_job(method=method, parts=parts, standardize=standardized)
    manifest = partition(job, dataset)
    names = names_by_node(job, manifest)
    expected_names = [f"user user/{u}" for u in range(USERS)] + [f"item {9000 + i}" for i in range(ITEMS)]
    order = [names.index(name) for name in expected_names]
    for modality, (having, x) in features().items():
        rows = np.concatenate([data.propagated[modality] for data in load_all(job, manifest)])[order]
        expected = dense_truth(x, having, standardized=standardized)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


def test_projecting_propagated_rows_is_propagating_projected_ones(
    dataset: Manifest, partition_job: MakeJob
) -> None:
    job = partition_job(method="random", parts=3, standardize=False)
    manifest = partition(job, dataset)
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(7, 5)), generator.normal(size=7)
    adjacency = np.zeros((USERS, ITEMS))
    adjacency[tuple(np.transpose(training_pairs()))] = 1.0
    user, item = oracle.modality_tower(adjacency, features()["image"][1].astype(np.float64), weight, bias)
    rows = np.concatenate([data.propagated["image"] for data in load_all(job, manifest)])
    projected = rows @ np.concatenate([weight, bias[:, None]], 1).T
    for node, name in enumerate(names_by_node(job, manifest)):
        side, external = name.split()
        index = int(external.removeprefix("user/")) if side == "user" else int(external) - 9000
        if (side, index) != ("item", COLD_ITEM):
            np.testing.assert_allclose(
                projected[node], (user if side == "user" else item)[index], rtol=1e-5, atol=1e-5
            )


def test_by_hand(tmp_path: Path, partition_job: MakeJob) -> None:
    """Users 0: items 0, 1; 1: item 1. Item 2 is cold. Features are the item's number plus 1."""
    x = np.array([[1.0], [2.0], [3.0]], np.float32)
    dataset = write_dataset(
        tmp_path / "dataset", [(0, 1), (1, 1), (0, 0)], [(1, 2)], [], features={"image": ([0, 1, 2], x)}
    )
    job = partition_job(parts=1, standardize=False)
    data = load_all(job, partition(job, dataset))[0]
    assert (data.users, data.items) == (2, 3)
    assert data.indptr.tolist() == [0, 2, 3, 4, 6, 6]
    assert data.neighbours.tolist() == [2, 3, 3, 0, 0, 1]
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(data.weight, [half, 0.5, half, half, 0.5, half], rtol=1e-6)
    assert [a.tolist() for a in data.held_out["validation"]] == [[0, 0, 1], [4]]
    assert [a.tolist() for a in data.held_out["test"]] == [[0, 0, 0], []]
    user0, user1 = np.array([3, 2]) * half, np.array([2, 1])
    item1 = (user0 + user1) * half
    np.testing.assert_allclose(data.propagated["image"], [user0, user1, user0, item1, [3, 1]], rtol=1e-6)


@pytest.mark.processes
def test_metis_and_random_publish_the_same_rows(dataset: Manifest, partition_job: MakeJob) -> None:
    jobs = [
        partition_job(method=m, parts=p)
        for m, p in (("metis", 1), ("metis", 4), ("random", 4), ("random", 7))
    ]
    result = []
    for job in jobs:
        manifest = partition(job, dataset)
        result.append((names_by_node(job, manifest), rows_by_name(job, manifest)))
    assert len({tuple(names) for names, _ in result}) == len(jobs)
    assert all(rows == result[0][1] for _, rows in result)
    assert len(result[0][1]) == USERS + ITEMS


def test_edges_are_the_training_interactions_both_ways(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job(method="random", parts=4)
    manifest = partition(job, dataset)
    names, edges = names_by_node(job, manifest), {}
    for data, first in zip(load_all(job, manifest), read_book(manifest).bounds, strict=False):
        row = np.repeat(np.arange(data.users + data.items), np.diff(data.indptr))
        keys = row * len(names) + data.neighbours
        assert (np.diff(keys) > 0).all()  # by row, ascending, each once
        edges |= {
            (int(first + r), int(n)): float(w)
            for r, n, w in zip(row, data.neighbours, data.weight, strict=True)
        }
    assert all(edges[b, a] == weight for (a, b), weight in edges.items())
    forward = {(names[a], names[b]) for a, b in edges if names[a].startswith("user")}
    assert forward == {(f"user user/{u}", f"item {9000 + i}") for u, i in training_pairs()}
    assert len(edges) == 2 * len(forward) == manifest.facts["edges"]


def test_held_out_items_by_user(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job(parts=5, method="random")
    manifest = partition(job, dataset)
    names = names_by_node(job, manifest)
    for split, pairs in HELD_OUT.items():
        result = set()
        for data, first in zip(load_all(job, manifest), read_book(manifest).bounds, strict=False):
            indptr, items = data.held_out[split]
            assert len(indptr) == data.users + 1
            row = np.repeat(np.arange(data.users), np.diff(indptr))
            result |= {(names[first + r], names[n]) for r, n in zip(row, items, strict=True)}
        assert result == {(f"user user/{u}", f"item {9000 + i}") for u, i in pairs}


def test_facts(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job(parts=4, method="random", seed=3)
    manifest = partition(job, dataset)
    book = read_book(manifest)
    parts = load_all(job, manifest)
    assert book.num_users == USERS
    assert book.num_items == ITEMS
    assert max(book.users) - min(book.users) <= 1
    assert max(book.items) - min(book.items) <= 1
    crossing = 0
    for part, data in enumerate(parts):
        mine = data.neighbours[: data.indptr[data.users]]
        crossing += int(((mine < book.bounds[part]) | (mine >= book.bounds[part + 1])).sum())
    assert manifest.facts["edge_cut"] == pytest.approx(crossing / len(training_pairs()))
    bounds = book.worker_bounds(2)
    mine = [
        np.searchsorted(bounds, data.neighbours[: data.indptr[data.users]], side="right") - 1
        for data in parts
    ]
    between = sum(int((part // 2 != holders).sum()) for part, holders in enumerate(mine))
    by_workers = manifest.facts["edge_cut_of_workers"]
    assert (by_workers[0], by_workers[3]) == (0.0, manifest.facts["edge_cut"])
    assert by_workers[1] == pytest.approx(between / len(training_pairs()))
    degrees = np.bincount([item for _, item in training_pairs()], minlength=ITEMS)
    recorded = manifest.facts["degrees"]["items"]
    assert recorded[:3] == [
        [int(chosen.sum()), int(degrees[chosen].sum())]
        for chosen in (degrees == 0, degrees == 1, (degrees >= 2) & (degrees < 4))
    ]
    assert np.sum(recorded, 0).tolist() == [ITEMS, len(training_pairs())]
    edges = np.array([len(data.neighbours) for data in parts])
    assert manifest.facts["balance"]["edges"] == pytest.approx(edges.max() / edges.mean())
    assert manifest.facts["balance"]["users"] == max(book.users) / (USERS / 4)
    assert manifest.facts["bytes"] == sum(
        f.size for f in location(job).files() if not f.path.endswith("manifest.json")
    )
    assert manifest.facts["modalities"] == {"image": 5, "text": 40}
    assert manifest.facts["cold_items"] == 1
    assert (manifest.facts["user_id_type"], manifest.facts["item_id_type"]) == ("string", "int64")
    assert read_manifest(location(job), "partitions") == manifest


@pytest.mark.processes
def test_metis_cuts_fewer_edges_and_stays_even(tmp_path: Path, partition_job: MakeJob) -> None:
    """Four planted communities: 2% of the interactions leave theirs."""
    generator = np.random.default_rng(1)
    users, items = generator.integers(0, 400, 6000), generator.integers(0, 50, 6000)
    stays = generator.random(6000) < 0.98
    community = np.where(stays, users % 4, generator.integers(0, 4, 6000))
    pairs = sorted(set(zip(users.tolist(), (items * 4 + community).tolist(), strict=True)))
    x = np.zeros((200, 1), np.float32)
    dataset = write_dataset(
        tmp_path / "dataset", pairs, [(0, 0)], [(0, 1)], features={"image": (range(200), x)}
    )
    metis, random = (partition(partition_job(parts=4, method=m), dataset).facts for m in ("metis", "random"))
    assert metis["edge_cut"] < 0.15
    assert random["edge_cut"] > 0.6
    assert all(value < 1.15 for value in metis["balance"].values())


@pytest.mark.processes
def test_metis_that_fails_says_so() -> None:
    with pytest.raises(
        MmsslError, match=r"METIS could not cut the graph into 2 parts \(exit status [1-9-].*streaming"
    ):
        metis(np.array([0, 1, 2]), np.array([7, 0]), np.array([0, 1]), 2)  # there is no node 7


_VALUES_IN_NEW_MEMORY = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
found = set()
for size in (24, 200, 1000, 9000):
    places = [libc.malloc(size) for _ in range(8)]
    for place in places:
        ctypes.memset(place, 7, size)
    for place in places:
        libc.free(place)
    for _ in range(8):
        found |= set(ctypes.string_at(libc.malloc(size), size))
print(len(found))
"""


@pytest.mark.processes
def test_memory_that_metis_gets_holds_nothing_of_what_was_there() -> None:
    """DGL's METIS reads some before it writes it: anything that differs from process to process would move
    the cut."""
    done = subprocess.run(
        [sys.executable, "-c", _VALUES_IN_NEW_MEMORY],
        env=metis_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


@pytest.mark.processes
def test_a_command_that_asks_for_current_partitions_loads_neither_torch_nor_dgl() -> None:
    code = (
        "import sys, mmssl_dist.pipeline.stages, mmssl_dist.graph.partition\n"
        "heavy = {'torch', 'dgl', 'ray', 'faiss'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_constant_feature_becomes_zero(tmp_path: Path, partition_job: MakeJob) -> None:
    x = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0]], np.float16)
    dataset = write_dataset(
        tmp_path / "dataset", [(0, 0)], [(0, 1)], [(0, 2)], features={"image": ([0, 1, 2], x)}
    )
    job = partition_job(parts=1)
    rows = load_all(job, partition(job, dataset))[0].propagated[
        "image"
    ]  # one user, then item 0 and two cold items
    assert (rows[:, 0] == 0).all()
    np.testing.assert_allclose(rows[:, 1], np.array([-2, -2, -1, 3]) / np.sqrt(14 / 3), rtol=1e-6)


def test_more_parts_than_nodes(tmp_path: Path, partition_job: MakeJob) -> None:
    dataset = write_dataset(
        tmp_path / "dataset",
        [(0, 0), (1, 1)],
        [(0, 1)],
        [],
        features={"image": ([0, 1], np.ones((2, 1), np.float32))},
    )
    with pytest.raises(InputError, match=r"partition\.parts: found 5; .*2 users and 2 items"):
        partition(partition_job(parts=5), dataset)
    job = partition_job(parts=4, method="random")
    book = read_book(partition(job, dataset))
    assert [u + i for u, i in zip(book.users, book.items, strict=True)] == [1, 1, 1, 1]


@pytest.mark.processes
@pytest.mark.parametrize("method", ["metis", "random"])
def test_parts_without_users_or_items(tmp_path: Path, partition_job: MakeJob, method: str) -> None:
    """One item for five users: most parts have no item, and still every row can be read."""
    pairs = [(u, 0) for u in range(5)]
    dataset = write_dataset(
        tmp_path / "dataset", pairs, [(0, 0)], [], features={"image": ([0], np.ones((1, 2), np.float32))}
    )
    job = partition_job(parts=4, method=method, standardize=False)
    manifest = partition(job, dataset)
    assert 0 in read_book(manifest).items
    rows = rows_by_name(job, manifest)
    assert sorted(rows) == ["item item-0", *(f"user {1000 + u}" for u in range(5))]


def test_a_changed_file_is_refused(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job(method="random", parts=2)
    manifest = partition(job, dataset)
    folder = location(job) / "part-00001"
    weight = Path((folder / "weight.npy").path)
    content = bytearray(weight.read_bytes())
    content[-1] ^= 1
    weight.write_bytes(content)
    load_partition(location(job), manifest, 0, Path(job.output))
    with pytest.raises(ArtifactError, match=r"part-00001/weight\.npy: content differs"):
        load_partition(location(job), manifest, 1, Path(job.output))
    weight.unlink()
    with pytest.raises(ArtifactError, match=r"weight\.npy.*is gone"):
        load_partition(location(job), manifest, 1, Path(job.output))
    Path((folder / "user_ids.parquet").path).write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="user_ids"):
        load_ids(location(job), manifest, 1, Path(job.output))


def test_a_dataset_found_changed_while_it_is_written_leaves_nothing_published(
    dataset, partition_job: MakeJob
) -> None:
    job = partition_job(method="random", parts=2)
    partition(job, dataset)
    shard = sorted(Path(job.output).glob("dataset/features/text/*.parquet"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="features/text"):
        partition(job, dataset)
    assert read_manifest(location(job), "partitions") is None


@pytest.mark.parametrize("name", ["users", "items", "interactions/train", "features/text"])
def test_a_dataset_found_changed_before_leaves_what_was_published(
    dataset, partition_job: MakeJob, name: str
) -> None:
    job = partition_job(method="random", parts=2)
    published = partition(job, dataset)
    shard = min(Path(job.output).glob(f"dataset/{name}/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name):
        partition(job, dataset)
    assert read_manifest(location(job), "partitions") == published


def test_fingerprint_names_what_the_partitions_are_made_of(dataset: Manifest, partition_job: MakeJob) -> None:
    other = Manifest("dataset", "another", dataset.facts, dataset.files)
    prints = [
        partitions_fingerprint(partition_job(parts=2), dataset),
        partitions_fingerprint(partition_job(parts=3), dataset),
        partitions_fingerprint(partition_job(parts=2, seed=1), dataset),
        partitions_fingerprint(partition_job(parts=2, standardize=False), dataset),
        partitions_fingerprint(partition_job(parts=2, method="random"), dataset),
        partitions_fingerprint(partition_job(parts=2), other),
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == partitions_fingerprint(partition_job(parts=2), dataset)


@pytest.mark.processes
def test_the_same_job_publishes_the_same_bytes(dataset: Manifest, partition_job: MakeJob) -> None:
    for method in ("metis", "random"):
        job = partition_job(parts=4, method=method)
        assert partition(job, dataset) == partition(job, dataset)


def test_a_user_without_training_items_has_zero_rows(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job(method="random", parts=4)
    manifest = partition(job, dataset)
    node = names_by_node(job, manifest).index(f"user user/{COLD_USER}")
    rows = np.concatenate([data.propagated["text"] for data in load_all(job, manifest)])
    assert (rows[node] == 0).all()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"users": 1 << 40}, "users: the indices are not 0 to 1099511627775"),
        ({"users": USERS - 1}, f"users: the indices are not 0 to {USERS - 2}"),
        ({"modalities": {"image": {"dimension": 1 << 40}}}, "features/image: vectors of 5 values, where the"),
    ],
    ids=["absurd users", "fewer users", "absurd width"],
)
def test_facts_that_the_files_deny_are_refused_before_memory_is_taken(
    dataset, partition_job, facts, message
) -> None:
    with pytest.raises(ArtifactError, match=message):
        partition(partition_job(), replace(dataset, facts={**dataset.facts, **facts}))


@pytest.mark.processes
def test_partitions_of_another_size_than_their_book(dataset: Manifest, partition_job: MakeJob) -> None:
    job = partition_job()
    manifest = partition(job, dataset)
    book = {
        "users": [n + 1 for n in manifest.facts["book"]["users"]],
        "items": manifest.facts["book"]["items"],
    }
    with pytest.raises(ArtifactError, match=r"part-00000: lists of \d+ nodes, where the manifest says \d+"):
        load_all(job, replace(manifest, facts={**manifest.facts, "book": book}))
