"""Inside one bucket: duplicates, numbers, unknown items, repeated vectors; ids and packed rows underneath."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config.data_sections import Split
from mmssl_dist.data.bucket_steps import (
    Catalogue,
    distinct_interactions,
    held_out_digests,
    settle_items,
    settle_users,
)
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import buckets_of, hashes, positions, ranked
from mmssl_dist.data.k_core import drop_rare
from mmssl_dist.data.packed_rows import pack, unpack
from mmssl_dist.data.rows import item_schema, tally
from mmssl_dist.errors import InputError
from mmssl_dist.kernels.splitmix import mix
from mmssl_dist.storage import open_location
from tests.jobs import raw_job


def _interactions(rows, **extra):
    """[(user, item)] as rows of bucket 0, row r from file 0."""
    n = len(rows)
    return pa.table(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            **extra,
            "row": pa.array(range(n), pa.int64()),
            "file": pa.array([0] * n, pa.int32()),
            "bucket": pa.array([0] * n, pa.int32()),
        }
    )


def _file(name, tmp_path):
    return RawFile(location=open_location(f"raw/{name}", raw_job(tmp_path).storage), size=0, modified=None)


@pytest.mark.processes
def test_hashes_are_the_same_in_another_process():
    code = (
        "import pyarrow as pa; from mmssl_dist.data.ids import hashes\n"
        "print([int(h) for a in (['a', 'b'], [1, -1], [0.5]) for h in hashes(pa.array(a))])"
    )
    root = Path(__file__).parents[3]
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)},
    ).stdout
    here = [int(h) for values in (["a", "b"], [1, -1], [0.5]) for h in hashes(pa.array(values))]
    assert eval(printed) == here
    assert len(set(here)) == 5


@given(st.lists(st.text(max_size=4), max_size=30))
def test_ranks_are_ascending_and_complete(texts):
    ids = pa.array(texts, pa.string())
    distinct_ids, codes = ranked(ids)
    assert distinct_ids.to_pylist() == sorted(set(ids.to_pylist()), key=lambda text: text.encode())
    assert distinct_ids.take(pa.array(codes)).equals(ids)


def test_rows_without_ids_have_a_bucket_too():
    assert hashes(pa.array(["a", None])).tolist() == [hashes(pa.array(["a"]))[0], 0]
    assert len(set(buckets_of(pa.array([None, None], pa.int64()), 4).to_pylist())) == 1


def test_positions_of_absent_ids():
    assert positions(pa.array([3, 9, 1]), pa.array([1, 3])).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    "ids", [np.arange(40000), np.arange(40000) * 64, [f"user-{n}" for n in range(40000)]]
)
def test_buckets_are_even(ids):
    sizes = np.bincount(buckets_of(pa.array(ids), 16).to_numpy(), minlength=16)
    assert abs(sizes / 2500 - 1).max() < 0.1


def test_mixing_is_a_bijection_on_samples():
    assert len(set(mix(np.arange(10000, dtype=np.uint64)).tolist())) == 10000


def test_a_bucket_survives_packing():
    tables = {"a": pa.table({"x": [1, 2], "y": ["p", None]}), "b.c": pa.table({"z": pa.array([], pa.int8())})}
    row = pack(3, {"n": 2}, tables)
    assert row.num_rows == 1
    assert row["n"].to_pylist() == [2]
    joined = pa.concat_tables(
        [pack(1, {"n": 0}, {name: table.slice(0, 0) for name, table in tables.items()}), row]
    )
    for name, table in tables.items():
        assert unpack(joined.slice(1, 1), name).equals(table)
        assert unpack(joined.slice(0, 1), name).num_rows == 0


def test_of_duplicates_the_earliest_split_then_time_stays():
    rows = _interactions(
        [("a", 1), ("a", 1), ("b", 1), ("a", 1)], split=pa.array([2, 0, 1, 0], pa.int8()), time=[1, 9, 5, 3]
    )
    kept, dropped = distinct_interactions(rows)
    assert kept.select(["user_id", "row"]).to_pydict() == {"user_id": ["a", "b"], "row": [3, 2]}
    assert dropped == {"below_min_events": 0, "duplicate": 2}


def test_pairs_in_few_rows_go():
    rows = _interactions([("a", 1), ("a", 2), ("a", 1), ("b", 1), ("b", 2), ("b", 2), ("b", 2)])
    kept, dropped = distinct_interactions(rows, 2)
    assert kept.select(["user_id", "item_id"]).to_pydict() == {"user_id": ["a", "b"], "item_id": [1, 2]}
    assert dropped == {"below_min_events": 2, "duplicate": 3}
    packed = settle_users(rows, Split(method="leave_last_out"), "ratio", 2)
    assert packed.select(["interactions", "below_min_events", "duplicate"]).to_pylist() == [
        {"interactions": 2, "below_min_events": 2, "duplicate": 3}
    ]
    assert distinct_interactions(rows, 4)[0].num_rows == 0


def test_users_are_numbered_in_order_and_tallies_counted():
    rows = _interactions([("b", 1), ("a", 2), ("b", 1), ("b", 3)], split=pa.array([0, 0, 0, 1], pa.int8()))
    packed = settle_users(
        pa.concat_tables([rows, tally(rows.schema, "null_id", 5, 0)]), Split(method="given"), "given"
    )
    counts = packed.select(["users", "interactions", "null_id", "duplicate"]).to_pylist()
    assert counts == [{"users": 2, "interactions": 3, "null_id": 5, "duplicate": 1}]
    assert unpack(packed, "users")["user_id"].to_pylist() == ["a", "b"]
    table = unpack(packed, "interactions")
    assert list(
        zip(table["user"].to_pylist(), table["item_id"].to_pylist(), table["split"].to_pylist(), strict=True)
    ) == [(0, 2, 0), (1, 1, 0), (1, 3, 1)]


@pytest.mark.parametrize("method", ["ratio", "leave_last_out"])
def test_splits_follow_the_seed_not_the_order_of_rows(method):
    rng = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in rng.integers(0, 20, (200, 2))})
    rows = _interactions(pairs, time=rng.integers(0, 3, len(pairs)))

    def settled(table, seed):
        split = Split(method=method, validation=0.2, test=0.3, seed=seed)
        return unpack(settle_users(table, split, method), "interactions").drop_columns(["row"])

    shuffled = rows.take(pa.array(rng.permutation(len(pairs)))).set_column(
        3, "row", pa.array(range(len(pairs)))
    )
    assert settled(shuffled, 1).equals(settled(rows, 1))
    assert not settled(rows, 2).equals(settled(rows, 1))


def _item_rows(rows):
    """[(item, kind, user, split, file, row, vector of float32)]."""
    names = ["item_id", "kind", "user", "split", "file", "row", "vector"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns["vector"] = [
        None if v is None else np.asarray(v, np.float32).tobytes() for v in columns["vector"]
    ]
    return pa.table({**columns, "bucket": [2] * len(rows)}, schema=item_schema(pa.string()))


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(
        features={"image": (_file("i.parquet", tmp_path),), "text": (_file("t.parquet", tmp_path),)},
        shapes={"image": (2, np.dtype(np.float32)), "text": (1, np.dtype(np.float32))},
        core=False,
        keep_unknown=False,
    )


FEATURES = [
    ("b", 0, None, None, 0, 0, [1, 2]),
    ("a", 0, None, None, 0, 1, [3, 4]),
    ("c", 1, None, None, 0, 0, [5]),
]


def test_items_are_those_with_features_in_order(catalogue):
    packed = settle_items(
        _item_rows(
            [*FEATURES, ("b", -1, 7, 2, 0, 5, None), ("b", -1, 3, 0, 0, 6, None), ("a", -1, 3, 0, 0, 9, None)]
        ),
        catalogue,
    )
    assert unpack(packed, "items")["item_id"].to_pylist() == ["a", "b", "c"]
    assert unpack(packed, "train").to_pydict() == {"user": [3, 3], "item": [0, 1]}
    assert unpack(packed, "test").to_pydict() == {"user": [7], "item": [1]}
    assert unpack(packed, "features.image").to_pydict() == {"item": [0, 1], "vector": [[3, 4], [1, 2]]}
    assert unpack(packed, "features.text").to_pydict() == {"item": [2], "vector": [[5]]}
    assert packed.select(
        ["bucket", "items", "items_dropped", "train", "validation", "test", "features.image"]
    ).to_pylist() == [
        {
            "bucket": 2,
            "items": 3,
            "items_dropped": 0,
            "train": 2,
            "validation": 0,
            "test": 1,
            "features.image": 2,
        }
    ]


def test_a_core_keeps_no_item_without_interactions(catalogue):
    core = replace(catalogue, core=True)
    packed = settle_items(_item_rows([*FEATURES, ("b", -1, 7, 0, 0, 5, None)]), core)
    assert unpack(packed, "items")["item_id"].to_pylist() == ["b"]
    assert packed["items_dropped"].to_pylist() == [2]
    assert unpack(packed, "features.image").to_pydict() == {"item": [0], "vector": [[1, 2]]}
    assert unpack(packed, "features.text").num_rows == 0


UNKNOWN = [
    ("x", -1, 7, 0, 0, 8, None),
    ("y", -1, 7, 0, 0, 5, None),
    ("x", -1, 3, 0, 0, 6, None),
    ("a", -1, 3, 0, 0, 7, None),
]


def test_unknown_items_are_counted_and_their_first_rows_named(catalogue):
    packed = settle_items(_item_rows([*FEATURES, *UNKNOWN]), catalogue)
    assert packed.select(["unknown_items", "unknown_interactions"]).to_pylist() == [
        {"unknown_items": 2, "unknown_interactions": 3}
    ]
    assert unpack(packed, "unknown_examples").select(["item_id", "row"]).to_pydict() == {
        "item_id": ["y", "x"],
        "row": [5, 6],
    }


def test_interactions_with_unknown_items_are_dropped(catalogue):
    packed = settle_items(_item_rows([*FEATURES, *UNKNOWN]), catalogue)
    assert unpack(packed, "items")["item_id"].to_pylist() == ["a", "b", "c"]
    assert unpack(packed, "train").to_pydict() == {"user": [3], "item": [0]}


@pytest.mark.parametrize("core", [False, True])
def test_unknown_items_are_kept_without_features(catalogue, core):
    packed = settle_items(_item_rows([*FEATURES, *UNKNOWN]), replace(catalogue, keep_unknown=True, core=core))
    items = ["a", "x", "y"] if core else ["a", "b", "c", "x", "y"]
    assert unpack(packed, "items")["item_id"].to_pylist() == items
    train = unpack(packed, "train").to_pydict()
    assert [items[item] for item in train["item"]] == ["a", "x", "x", "y"]
    assert unpack(packed, "features.image")["item"].to_pylist() == ([0] if core else [0, 1])


@pytest.mark.parametrize("method", ["given", "ratio", "temporal"])
def test_the_digest_of_what_is_held_out_knows_neither_order_nor_numbers(method):
    rng = np.random.default_rng(1)
    pairs = sorted({(f"u{u}", int(i)) for u, i in rng.integers(0, 30, (300, 2))})
    splits_ = pa.array(rng.integers(0, 3, len(pairs)), pa.int8())
    rows = _interactions(pairs, split=splits_, time=range(len(pairs)))
    thresholds = (200, 250) if method == "temporal" else None

    def digest(*tables):
        packed = [settle_users(table, Split(method=method), method) for table in tables]
        if method == "temporal":
            keys = np.sort(np.concatenate([unpack(row, "interactions")["time"].to_numpy() for row in packed]))
            limits = tuple(int(keys[position]) for position in thresholds)
        else:
            limits = None
        sums = [held_out_digests(row, limits).to_pylist()[0] for row in packed]
        return {name: sum(sums_of_worker[name] for sums_of_worker in sums) % (1 << 64) for name in sums[0]}

    whole = digest(rows)
    by_user = [rows.filter(pc.equal(rows["user_id"], user)) for user in pc.unique(rows["user_id"])]
    half = len(by_user) // 2
    assert digest(pa.concat_tables(by_user[half:]), pa.concat_tables(by_user[:half])) == whole
    swapped = rows.set_column(1, "item_id", pa.array([item + 1 for _, item in pairs], pa.int64()))
    assert digest(swapped) != whole


def test_two_vectors_of_one_item(catalogue):
    with pytest.raises(InputError) as caught:
        settle_items(_item_rows([*FEATURES, ("a", 0, None, None, 0, 7, [0, 0])]), catalogue)
    assert str(caught.value).startswith(
        "raw/i.parquet, row 7: found a duplicate row for item 'a'; an item has at most one"
    )


def test_the_rare_go_and_tallies_stay():
    rows = _interactions([("a", 1), ("a", 2), ("b", 1)])
    rows = pa.concat_tables([rows, tally(rows.schema, "null_id", 4, 0)])
    kept = drop_rare(table=rows, side="user_id", other="item_id", least=2, buckets=8)
    assert kept["user_id"].to_pylist() == ["a", "a", None]
    assert kept["bucket"].to_pylist()[:2] == buckets_of(pa.array([1, 2]), 8).to_pylist()
