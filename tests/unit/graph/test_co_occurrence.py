"""Pairs of items in one user's training items, beside chance: by hand, and of communities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.config.job import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import bipartite
from mmssl_dist.graph.co_occurrence import CoOccurrence, co_occurrence, sampled_pairs
from mmssl_dist.graph.own_lists import OwnLists
from mmssl_dist.graph.partition import partition
from mmssl_dist.graph.partition_book import PartitionBook
from tests.artifacts import write_dataset
from tests.unit.graph.published_partitions import load_all

MakeJob = Callable[..., Job]
Pairs = list[tuple[int, int]]
COMMUNITIES = 20


def communities(users: int, items: int, rng: np.random.Generator) -> tuple[np.ndarray, Pairs]:
    """The community of each item, and four items of its own community for each user."""
    of_items = np.arange(items) % COMMUNITIES
    return of_items, [
        (user, int(item))
        for user in range(users)
        for item in rng.choice(np.flatnonzero(of_items == user % COMMUNITIES), 4, replace=False)
    ]


def own_lists(pairs: Pairs, users: int, items: int) -> OwnLists:
    """Of one worker with one part: users are the nodes from 0 on, items those from ``users`` on."""
    user, item = np.array(pairs).T
    graph = bipartite(user, item, (users, items))
    of_users = graph.of_user.__class__(graph.of_user.indptr, graph.of_user.values + users)
    return OwnLists(
        owner=Exchange(None, torch.tensor([0, users + items]), 0),
        book=PartitionBook((users,), (items,)),
        users=np.arange(users),
        items=users + np.arange(items),
        of_users=of_users,
        of_items=graph.of_item,
    )


def test_pairs_and_chance_by_hand():
    # Users 0, 1, 2; items 3, 4, 5. Item 3 lists 4, item 4 lists 5, item 5 lists 3.
    own = own_lists([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2)], 3, 3)
    pairs = sampled_pairs(own, 0)
    both = [(3, 4), (4, 3)]
    assert Counter(zip(*(side.tolist() for side in pairs), strict=True)) == Counter(
        [*both, *both, (3, 5), (5, 3), (4, 5), (5, 4)]
    )
    seen = co_occurrence(own, pairs, np.array([3, 4, 5]), np.array([4, 5, 3]))
    # (3, 4) twice, (4, 5) and (5, 3) once. All three items are in two of the six interactions, and every
    # one of the eight pairs has one neighbour to meet.
    assert seen == CoOccurrence(pairs=8, listed=4, by_chance=8 * 2 / 6)
    assert seen.lift == 1.5


def test_a_user_of_many_items_gives_all_pairs_of_eight():
    own = own_lists([(0, item) for item in range(30)] + [(1, item) for item in range(30, 38)], 2, 38)
    first, second = sampled_pairs(own, 3)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for items in (range(2, 32), range(32, 40)):
        own_pairs = [(a, b) for a, b in pairs if a in items]
        chosen = {a for a, _ in own_pairs}
        assert len(chosen) == 8
        assert set(own_pairs) == set(permutations(chosen, 2))
    again, other = sampled_pairs(own, 3), sampled_pairs(own, 4)
    assert (again[0].tolist(), again[1].tolist()) == (first.tolist(), second.tolist())
    assert other[0].tolist() != first.tolist()


def test_users_of_one_item_have_no_pairs():
    own = own_lists([(user, user % 3) for user in range(9)], 9, 3)
    pairs = sampled_pairs(own, 0)
    assert [len(side) for side in pairs] == [0, 0]
    seen = co_occurrence(own, pairs, np.array([9]), np.array([10]))
    assert seen == CoOccurrence(pairs=0, listed=0, by_chance=0.0)
    assert seen.lift is None
    assert not seen.is_chance(1e9)


def test_communities_are_far_above_chance_and_shuffled_items_are_not():
    users, items, rng = 2000, 600, np.random.default_rng(0)
    of_items, interactions = communities(users, items, rng)
    own = own_lists(interactions, users, items)
    pairs = sampled_pairs(own, 1)
    row = np.repeat(np.arange(items), 10)
    near = np.concatenate(
        [rng.choice(np.flatnonzero(of_items == own), 10, replace=False) for own in of_items]
    )
    lifts = []
    for order in (np.arange(items), rng.permutation(items)):
        listing, listed = users + order[row], users + order[near]
        by_both = np.lexsort((listed, listing))
        seen = co_occurrence(own, pairs, listing[by_both], listed[by_both])
        assert seen.by_chance > 100
        lifts.append(seen.lift)
    assert lifts[0] > 10
    assert 0.7 < lifts[1] < 1.3


@pytest.mark.parametrize(
    ("pairs", "listed", "by_chance", "is_chance"),
    [
        (5000, 139, 100.0, True),
        (5000, 140, 100.0, False),
        (5000, 61, 100.0, True),
        (5000, 60, 100.0, False),  # similar items stand in for each other
        (50000, 1249, 1000.0, True),
        (50000, 1251, 1000.0, False),
        (50000, 801, 1000.0, True),
        (50000, 799, 1000.0, False),
        (500, 30, 30.0, True),
        (500, 30, 29.9, False),  # too few to tell
        (500, 51, 51.0, False),  # lists with a tenth of the catalogue
    ],
)
def test_where_the_sample_can_tell(pairs: int, listed: int, by_chance: float, is_chance: bool):
    assert CoOccurrence(pairs=pairs, listed=listed, by_chance=by_chance).is_chance(1.25) is is_chance


def test_a_modality_that_says_nothing_of_what_users_choose_is_left_out(
    tmp_path: Path, partition_job: MakeJob
) -> None:
    items, rng = 200, np.random.default_rng(0)
    of_items, pairs = communities(400, items, rng)
    image = (np.eye(COMMUNITIES)[of_items] + rng.normal(0, 0.1, (items, COMMUNITIES))).astype(np.float32)
    text = rng.normal(size=(items, 8)).astype(np.float32)
    own = {"image": (np.arange(items), image), "text": (np.arange(items), text)}
    dataset = write_dataset(tmp_path / "dataset", pairs, [(0, 1)], [], features=own)

    job = partition_job(parts=2, method="random")
    manifest = partition(job, dataset)
    graphs = manifest.facts["item_graphs"]
    assert manifest.facts["left_out"] == ["text"]
    assert graphs["image"]["lift"] > 10
    assert 0.7 < graphs["text"]["lift"] < 1.3
    assert manifest.facts["modalities"] == {"image": COMMUNITIES}
    assert not [name for name in manifest.files if "text" in name and "part" in name]
    for part in load_all(job, manifest):
        assert set(part.propagated) == set(part.similar) == {"image"}
        assert len(part.similar["image"][1]) == 10 * part.items

    every = partition_job(parts=2, method="random", least_lift=0)
    manifest = partition(every, dataset)
    assert manifest.facts["item_graphs"] == graphs
    assert manifest.facts["left_out"] == []
    assert all(part.propagated["text"].any() for part in load_all(every, manifest))
    assert [len(part.similar["text"][1]) for part in load_all(every, manifest)] == [
        10 * part.items for part in load_all(every, manifest)
    ]
