"""Planted structure: communities explain interactions far better than popularity, and features reveal
them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mmssl_dist.datasets.synthesize import draw_features, draw_interactions, make_synthesis_plan
from mmssl_dist.errors import InputError

USERS, ITEMS, WANTED = 1500, 600, 20000


@pytest.fixture(scope="module")
def plan():
    return make_synthesis_plan(USERS, ITEMS, WANTED, {"image": 16}, seed=3)


@pytest.fixture(scope="module")
def pairs(plan):
    return draw_interactions(plan, 0, USERS)


def _recall(scores, train, test, k=20):
    scores = scores.copy()
    scores[train] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :k]
    wanted = np.zeros((USERS, ITEMS), bool)
    wanted[test] = True
    result, total = np.take_along_axis(wanted, top, 1).sum(1), wanted.sum(1)
    return (result[total > 0] / total[total > 0]).mean()


def test_communities_beat_popularity(plan, pairs):
    users, items = pairs
    held = np.random.default_rng(0).random(len(users)) < 0.2
    train, test = (users[~held], items[~held]), (users[held], items[held])
    popularity = np.tile(np.bincount(train[1], minlength=ITEMS).astype(float), (USERS, 1))
    own = np.arange(USERS)[:, None] % plan.communities == np.arange(ITEMS)[None] % plan.communities
    assert _recall(popularity, train, test) < 0.15
    assert _recall(popularity + 1e6 * own, train, test) > 0.5


def test_pairs_are_distinct_and_as_many_as_asked(pairs):
    users, items = pairs
    assert len(np.unique(users * ITEMS + items)) == len(users)
    assert abs(len(users) / WANTED - 1) < 0.05
    assert users.min() == 0
    assert users.max() == USERS - 1
    assert items.min() >= 0
    assert items.max() < ITEMS


def test_popularity_and_activity_have_a_head(pairs):
    users, items = pairs
    for counts in (
        np.sort(np.bincount(users, minlength=USERS)),
        np.sort(np.bincount(items, minlength=ITEMS)),
    ):
        assert counts[-1] > 3 * np.median(counts)
        assert counts[0] >= 1


def test_features_reveal_the_community(plan):
    features = draw_features(plan=plan, modality=0, width=16, first=0, last=ITEMS)
    assert features.dtype == np.float16
    community = np.arange(ITEMS) % plan.communities
    centroids = np.stack(
        [features[community == c].mean(0, dtype=np.float64) for c in range(plan.communities)]
    )
    nearest = ((features[:, None].astype(np.float64) - centroids) ** 2).sum(-1).argmin(1)
    assert (nearest == community).mean() > 0.95


@pytest.mark.parametrize("size", [10, 97, 600, 1 << 16])
def test_item_ids_are_a_permutation_that_hides_the_communities(size):
    plan = make_synthesis_plan(size, size, size, {"image": 1}, seed=1)
    ids = plan.item_ids(np.arange(size))
    assert np.array_equal(np.sort(ids), np.arange(size))


def test_seeds_differ_and_repeat(plan, pairs):
    again = draw_interactions(make_synthesis_plan(USERS, ITEMS, WANTED, {"image": 16}, seed=3), 0, USERS)
    other = draw_interactions(make_synthesis_plan(USERS, ITEMS, WANTED, {"image": 16}, seed=4), 0, USERS)
    assert np.array_equal(again[1], pairs[1])
    assert not np.array_equal(other[1][:1000], pairs[1][:1000])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"users": 0}, "users: found 0; users must be at least 1. Raise it."),
        ({"items": 9}, "items: found 9; items must be at least 10"),
        ({"interactions": 99}, "interactions: found 99; interactions must be at least 100"),
        ({"interactions": 501}, "interactions: found 501; at most a tenth of all pairs, 500"),
        ({"modalities": {}}, "modalities: found none"),
        ({"modalities": {"image": 0}}, "modalities.image: found 0; the width must be at least 1"),
    ],
)
def test_sizes_out_of_range(changed, expected):
    with pytest.raises(InputError) as caught:
        make_synthesis_plan(
            **{
                "users": 100,
                "items": 50,
                "interactions": 300,
                "modalities": {"image": 4},
                "seed": 0,
                **changed,
            }
        )
    assert str(caught.value).startswith(expected)


@pytest.mark.processes
def test_a_small_set_is_written_without_ray(tmp_path):
    """Starting Ray would take many times as long as writing."""
    code = """
import sys
from mmssl_dist.app import main
sys.argv[:1] = ["mmssl-dist", "synthesize"]
try:
    main()
finally:
    print(sorted({"ray", "torch", "dgl"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "raw"), "--users=60", "--items=40", "--interactions=200"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
    assert [path.name for path in (tmp_path / "raw/interactions.parquet").iterdir()] == ["part-00000.parquet"]
