"""What a user has is left out of lists wherever they are made, and held-out items with it, unless the export
says otherwise."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.report.list_quality import measure_lists
from mmssl_dist.serving.batched_queries import RecommendationQuery, answer_queries
from mmssl_dist.serving.pyfunc import Recommender
from mmssl_dist.serving.run import Ranked, Run, open_run
from mmssl_dist.storage import open_location, publish
from tests.exported import dataset_items, publish_run
from tests.training import ITEMS, USERS

SPLITS = {"known": ("train", "validation", "test"), "training": ("train",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of one model: exact lists and lists by the index, for each setting."""
    path = tmp_path_factory.mktemp("known")
    for exclude in SPLITS:
        for made in ("exact", "index"):
            sets = (f"export.recommendations={made}", f"export.exclude={exclude}")
            publish_run(path / f"{made}-{exclude}", *sets)
    return path


def left_out(output: Path, exclude: str) -> dict[str, set[int]]:
    """Each user's items that no list has, from the dataset itself."""
    splits = [dataset_items(output, split) for split in SPLITS[exclude]]
    return {user: set().union(*(items[user] for items in splits)) for user in splits[0]}


def exported_lists(output: Path) -> dict[str, list[int]]:
    table = pq.read_table(output / "export/recommendations").to_pydict()
    return dict(zip(table["user_id"], table["items"], strict=True))


def check_every_other_item(run: Run, lists: dict[str, list[int]], exclude: str) -> None:
    """That ``lists``, which are longer than the catalogue, hold all items but those left out."""
    everything = set(run.items.array.to_pylist())
    unwanted = left_out(Path(run.folder.root.path), exclude)
    assert len(lists) == USERS
    assert {user: set(items) for user, items in lists.items()} == {
        user: everything - unwanted[user] for user in lists
    }


def test_the_data_hold_something_out(folder):
    known, training = (left_out(folder / "exact-known", exclude) for exclude in SPLITS)
    assert sum(len(known[user]) - len(training[user]) for user in known) > USERS


@pytest.mark.parametrize("exclude", SPLITS)
@pytest.mark.parametrize("made", ["exact", "index"])
def test_exported_lists(folder, made, exclude):
    output = folder / f"{made}-{exclude}"
    run = open_run(str(output))
    assert run.facts["lists"]["exclude"] == run.exclude == exclude
    check_every_other_item(run, exported_lists(output), exclude)
    assert exported_lists(output) == exported_lists(folder / f"exact-{exclude}")


@pytest.mark.parametrize("exclude", SPLITS)
def test_lists_made_when_asked_for(folder, exclude):
    run = open_run(str(folder / f"exact-{exclude}"))
    users = run.users.array.to_pylist()
    ranked = [run.recommend(user, k=ITEMS) for user in users]
    check_every_other_item(run, {u: r.items for u, r in zip(users, ranked, strict=True)}, exclude)
    served = answer_queries(
        run, [RecommendationQuery(user=user, items=(), k=ITEMS, exclude_seen=True) for user in users]
    )
    assert all(isinstance(answer, Ranked) for answer in served)
    predicted = Recommender(run).predict(pd.DataFrame({"user_id": users}), {"k": ITEMS})
    for one, answer, items in zip(ranked, served, predicted["items"], strict=True):
        assert one.items == answer.items == items
    assert len(run.recommend(users[0], k=ITEMS, exclude_seen=False).items) == ITEMS


@pytest.mark.parametrize("exclude", SPLITS)
def test_the_history_is_what_lists_leave_out(folder, exclude):
    run = open_run(str(folder / f"exact-{exclude}"))
    unwanted = left_out(folder / f"exact-{exclude}", exclude)
    assert {user: set(run.history(user)) for user in unwanted} == unwanted
    assert all(len(run.history(user)) == len(unwanted[user]) for user in unwanted)
    # Popularity and a user's activity are those of training, whatever lists leave out.
    trained = [len(items) for items in left_out(folder / f"exact-{exclude}", "training").values()]
    assert run.seen.user_degrees.sum() == run.popular(ITEMS).scores.sum() == sum(trained)


def test_an_export_that_does_not_say_leaves_out_training(folder, tmp_path):
    source = open_run(str(folder / "exact-training"))
    for artifact in ("partitions", "dataset"):
        (tmp_path / artifact).symlink_to(folder / "exact-training" / artifact)
    (tmp_path / "export").mkdir()
    for path in (folder / "exact-training/export").iterdir():
        if path.name != "manifest.json":
            (tmp_path / "export" / path.name).symlink_to(path)
    manifest = source.export.manifest
    lists = {name: fact for name, fact in manifest.facts["lists"].items() if name != "exclude"}
    export = open_location(str(tmp_path / "export"), Storage())
    publish(export, replace(manifest, facts={**manifest.facts, "lists": lists}))
    earlier = open_run(str(tmp_path))
    assert earlier.exclude == "training"
    users = earlier.users.array.to_pylist()
    asked = {user: earlier.recommend(user, k=ITEMS).items for user in users}
    check_every_other_item(earlier, asked, "training")
    assert asked == exported_lists(folder / "exact-training")


@pytest.mark.parametrize("k", [5, 10, 1000])
def test_the_report_looks_at_the_same_lists_by_either_setting(folder, k):
    ours, theirs = (
        asdict(measure_lists(open_run(str(folder / f"exact-{exclude}")), k)) for exclude in SPLITS
    )
    assert (ours.pop("exclude"), theirs.pop("exclude")) == ("known", "training")
    for name in ("user_degrees", "item_degrees"):
        np.testing.assert_array_equal(ours.pop(name), theirs.pop(name))
    assert ours == theirs
    assert any(hit for example in ours["examples"] for hit in example["hits"])
