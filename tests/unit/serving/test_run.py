"""What a run gives back in a notebook is what was exported, by external id, and nothing changed or missing
passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmssl_dist
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, ConfigError, InputError
from mmssl_dist.serving.run import Ranked, open_run
from mmssl_dist.storage import open_location, publish, require_manifest
from tests.exported import dataset_items, publish_run
from tests.training import ITEMS, USERS

ROOT = Path(__file__).parents[3]


def test_embeddings_are_those_of_the_parquet_files(run, output):
    for side, ids, rows in (
        ("user", run.users, run.user_embeddings),
        ("item", run.items, run.item_embeddings),
    ):
        table = pq.read_table(output / f"export/{side}_embeddings")
        assert ids.array.to_pylist() == table[f"{side}_id"].to_pylist()
        np.testing.assert_array_equal(rows, np.stack(table["vector"].to_numpy()))
    assert run.user_embeddings.shape == (USERS, 16)
    assert run.item_embeddings.shape == (ITEMS, 16)


@pytest.mark.parametrize("exact", [False, True])
def test_recommendations_are_the_exported_lists(run, output, exact):
    table = pq.read_table(output / "export/recommendations").to_pydict()
    ranked = run.recommend(table["user_id"], k=7, exact=exact)
    for result, items, scores in zip(ranked, table["items"], table["scores"], strict=True):
        assert result.items == items[:7]
        np.testing.assert_allclose(result.scores, scores[:7], rtol=1e-5, atol=1e-6)


def test_an_export_without_lists_recommends_the_same(run, tmp_path):
    publish_run(tmp_path, "export.recommendations=none")
    assert not (tmp_path / "export/recommendations").exists()
    bare = open_run(str(tmp_path), Storage())
    users = bare.users.array.to_pylist()
    assert [result.items for result in bare.recommend(users, k=5)] == [
        result.items for result in run.recommend(users, k=5)
    ]


def test_one_user_several_users_and_texts_for_numbers(run):
    one = run.recommend("u3", k=4)
    assert isinstance(one, Ranked)
    assert len(one.items) == len(one.scores) == 4
    assert [ranked.items for ranked in run.recommend(["u3", "u5"], k=4)] == [
        one.items,
        run.recommend("u5", k=4).items,
    ]
    assert run.similar("107", k=3).items == run.similar(107, k=3).items
    assert [ranked.items for ranked in run.similar(np.asarray([107]), k=3)] == [run.similar(107, k=3).items]


def test_seen_items_are_those_of_all_splits_and_left_out_unless_wanted(run, output):
    splits = [dataset_items(output, split) for split in ("train", "validation", "test")]
    for user in ("u0", "u17", "u39"):
        seen = set().union(*(split[user] for split in splits))
        assert set(run.history(user)) == seen
        without, everything = (
            run.recommend(user, k=ITEMS, exclude_seen=choice).items for choice in (True, False)
        )
        assert set(everything) == set(run.items.array.to_pylist())
        assert set(without) == set(everything) - seen
        assert [item for item in everything if item in set(without)] == without


def test_similar_items_by_hand(run):
    units = run.item_embeddings / np.linalg.norm(run.item_embeddings, axis=1, keepdims=True)
    position = run.items.position(111)
    cosine = units @ units[position]
    cosine[position] = -2
    best = np.argsort(-cosine)[:5]
    result = run.similar(111, k=5)
    assert result.items == [run.items.array[int(i)].as_py() for i in best]
    np.testing.assert_allclose(result.scores, cosine[best], rtol=1e-5)
    assert len(run.similar(111, k=ITEMS + 5).items) == ITEMS - 1


def test_a_new_user_with_the_items_of_a_known_one_gets_the_row_but_for_its_own_part(run, exported):
    graph = exported.graph
    nodes = (graph.users + graph.first).tolist()
    assert len(nodes) == USERS
    for position in (0, 9, USERS - 1):
        items = run.seen.of(position)
        own = exported.id_rows[nodes[position]].numpy() / (exported.job.model.layers + 1)
        np.testing.assert_allclose(
            run.fold_in(items), run.user_embeddings[position] - own, rtol=1e-4, atol=1e-5
        )


def test_recommendations_for_a_new_user_leave_out_the_items_given(run):
    result = run.recommend_new([103, "104", 103], k=ITEMS)
    assert set(result.items) == set(run.items.array.to_pylist()) - {103, 104}
    np.testing.assert_allclose(
        result.scores,
        run.item_embeddings[run.items.positions(result.items)] @ run.fold_in(run.items.positions([103, 104])),
        rtol=1e-4,
        atol=1e-5,
    )
    assert set(run.recommend_new([103], k=ITEMS, exclude_seen=False).items) == set(
        run.items.array.to_pylist()
    )
    with pytest.raises(InputError, match="a new user is known by a list of at least one item"):
        run.recommend_new([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda run: run.recommend("nobody"),
            "user id: found 'nobody'; the run knows 40 users, with ids of type string",
        ),
        (lambda run: run.recommend(["u1", 7]), "user id: found 7;"),
        (lambda run: run.similar(5), "item id: found 5; the run knows 30 items, with ids of type int64"),
        (lambda run: run.recommend("u1", k=0), "k: found 0; a list has at least one item"),
        (lambda run: run.recommend("u1", k=2.0), "k: found 2.0; a list has at least one item"),
        (lambda run: run.similar(101, k=True), "k: found True; a list has at least one item"),
        (lambda run: run.recommend_new("110"), "items: found '110'; a new user is known by a list of"),
        (lambda run: run.recommend_new([]), "items: found none; a new user is known by a list of"),
        (lambda run: run.similar(101, k=-1), "k: found -1;"),
        (lambda run: run.history("x"), "user id: found 'x';"),
    ],
)
def test_bad_questions_are_answered_in_one_sentence(run, call, message):
    with pytest.raises(InputError) as caught:
        call(run)
    assert str(caught.value).startswith(message)


def test_an_approximate_index_is_asked_and_exact_goes_past_it(tmp_path):
    publish_run(tmp_path, "export.index.kind=ivf", "export.index.cells=10", "export.index.probes=1")
    run = open_run(str(tmp_path))
    exact = run.recommend("u1", k=10, exact=True).items
    assert len(exact) == 10
    assert len(run.recommend("u1", k=10).items) < 10  # one cell of ten has not so many
    assert exact == run.recommend(["u1"], k=10, exact=True)[0].items
    assert run.facts["index"]["recall"]["value"] < 1


def test_nothing_exported(tmp_path):
    with pytest.raises(InputError, match="the export must be published first"):
        mmssl_dist.open_run(str(tmp_path))


def test_wrong_storage_settings(output):
    with pytest.raises(ConfigError, match=r"storage\.endpoints: unknown key; did you mean endpoint\?"):
        mmssl_dist.open_run(str(output), storage={"endpoints": "http://127.0.0.1:1"})


@pytest.mark.parametrize(
    "name",
    [
        "safetensors/part-00002.safetensors",
        "index/items.faiss",
        "user_embeddings/part-00001.parquet",
        "fold_in/part-00000.safetensors",
    ],
)
def test_a_changed_file_is_noticed_when_it_is_read(output, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    content = bytearray((copy / "export" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "export" / name).write_bytes(content)
    run = open_run(str(copy))
    with pytest.raises(ArtifactError, match=name):
        run.recommend(run.users.array.to_pylist()), run.recommend_new([101])


def test_a_lookup_opens_the_partition_of_its_user_alone(output):
    run = open_run(str(output))
    users = run.partitions.manifest.facts["book"]["users"]
    user = run.users.array[sum(users[:2])].as_py()  # the first of the third partition
    run.recommend(user)
    assert list(run.user_rows._opened) == list(run.seen._opened) == [2]
    assert isinstance(run.user_rows.part(2), np.memmap)
    run.check_users()
    assert len(run.user_rows._opened) == len(run.seen._opened) == len(users)


def test_degrees_are_those_of_the_training_lists(run, output):
    train = dataset_items(output, "train")
    users, items = run.users.array.to_pylist(), run.items.array.to_pylist()
    assert run.seen.user_degrees.tolist() == [len(train[user]) for user in users]
    of_item = [sum(item in known for known in train.values()) for item in items]
    assert run.seen.item_degrees.tolist() == of_item


def test_rows_taken_by_place_are_those_of_all(run):
    positions = np.asarray([USERS - 1, 0, 7, 7])
    np.testing.assert_array_equal(run.user_rows.take(positions), run.user_embeddings[positions])
    assert run.user_rows.take(np.empty(0, np.int64)).shape == (0, 16)


def test_partitions_of_another_run_are_noticed(output, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    location = open_location(f"{copy}/partitions", Storage())
    publish(location, replace(require_manifest(location, "partitions", "partition"), fingerprint="another"))
    with pytest.raises(ArtifactError, match="partitioned again after the export"):
        open_run(str(copy))


def test_an_export_of_an_earlier_version_is_noticed(output, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    location = open_location(f"{copy}/export", Storage())
    manifest = require_manifest(location, "export", "export")
    facts = {name: value for name, value in manifest.facts.items() if name != "index"}
    publish(location, replace(manifest, facts=facts))
    with pytest.raises(ArtifactError, match="exported by an earlier version"):
        open_run(str(copy))


@pytest.mark.processes
def test_neither_importing_nor_ranking_loads_torch_or_ray(output):
    code = (
        "import sys\nimport mmssl_dist\nlight = set(sys.modules)\n"
        f"run = mmssl_dist.open_run({str(output)!r})\n"
        "run.recommend('u1')\nrun.similar(101)\nrun.recommend_new([101])\n"
        "heavy = {'torch', 'ray', 'dgl', 'deepspeed'} & set(sys.modules)\nassert not heavy, heavy\n"
        "assert not {'numpy', 'pyarrow', 'faiss', 'pydantic'} & light\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [np.int8, np.int64, np.uint32])
def test_numbers_of_numpy_are_lengths(run, number):
    features = {"image": [0.3] * 5}
    assert run.recommend("u3", k=number(2)).items == run.recommend("u3", k=2).items
    assert run.similar(101, k=number(2)).items == run.similar(101, k=2).items
    assert run.recommend_new([101], number(2)).items == run.recommend_new([101], 2).items
    assert run.similar_to_new(features, number(2)).items == run.similar_to_new(features, 2).items
    assert run.users_for_new(features, number(2)).users == run.users_for_new(features, 2).users
    assert run.popular(number(2)).items == run.popular(2).items


def test_one_id_and_several_in_every_form(run):
    one, two = run.recommend("u3", k=4).items, run.recommend("u5", k=4).items
    for user in (np.str_("u3"), np.asarray("u3"), pa.scalar("u3")):
        assert run.recommend(user, k=4).items == one
    for users in (
        ("u3", "u5"),
        np.asarray(["u3", "u5"]),
        pd.Series(["u3", "u5"]),
        pa.array(["u3", "u5"]),
        pa.chunked_array([["u3"], ["u5"]]),
        (user for user in ["u3", "u5"]),
    ):
        assert [ranked.items for ranked in run.recommend(users, k=4)] == [one, two]
    assert run.similar(np.int64(101), k=3).items == run.similar(101, k=3).items
    assert [ranked.items for ranked in run.similar(range(101, 103), k=3)] == [
        run.similar(item, k=3).items for item in (101, 102)
    ]
    assert run.recommend_new(np.asarray([101, 102]), 3).items == run.recommend_new([101, 102], 3).items


def test_popular_items_are_those_with_most_interactions_in_training(run, output):
    counts: dict[int, int] = {}
    for items in dataset_items(output, "train").values():
        for item in items:
            counts[item] = counts.get(item, 0) + 1
    popular = run.popular(5)
    assert popular.scores.tolist() == sorted(counts.values(), reverse=True)[:5]
    assert popular.scores.tolist() == [counts[item] for item in popular.items]
