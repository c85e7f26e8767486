"""Seeds: every training pair once per epoch, negatives uniform over what a user does not know, and the same
global draws whoever owns which partition."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmssl_dist.errors import InputError
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.sampling.seeds import SeedSampler
from tests.graphs import item_nodes, neighbours_of, small_graphs, user_nodes
from tests.unit.sampling.shares import sampling_job, seed_samplers


def drawn(samplers: list[SeedSampler], epoch: int, step: int) -> dict[str, list[tuple[int, ...]]]:
    """The global batch, by node ids."""
    batch: dict[str, list[tuple[int, ...]]] = {"pairs": [], "candidates": []}
    for sampler in samplers:
        seeds = sampler.draw(epoch, step)
        users = seeds.users + sampler.graph.first
        batch["pairs"] += zip(users.tolist(), seeds.positives.tolist(), seeds.negatives.tolist(), strict=True)
        batch["candidates"] += [(item,) for item in seeds.candidates.tolist()]
        assert seeds.pairs == sampler.pairs(epoch, step)
    return batch


@given(small_graphs(), st.integers(0, 12), st.data())
def test_an_epoch_deals_every_pair_once_whoever_owns_it(case, more, data):
    book, pairs = case
    batch_size = book.parts + more
    job = sampling_job(book.parts, f"training.batch_size={batch_size}", "losses.candidates=7")
    workers = data.draw(st.integers(1, book.parts))
    one, several = seed_samplers(book, pairs, 1, job), seed_samplers(book, pairs, workers, job)
    lists, items = neighbours_of(book, pairs), set(item_nodes(book))
    steps, epoch = one[0].steps, data.draw(st.integers(0, 2))
    assert steps == -(-len(pairs) // batch_size)
    assert {sampler.steps for sampler in several} == {steps}
    result = []
    for step in range(steps):
        batch = drawn(several, epoch, step)
        assert batch == drawn(one, epoch, step)
        assert 0 < len(batch["pairs"]) == one[0].pairs(epoch, step)
        # whole shares of each partition: at most one pair per partition away from even
        assert abs(len(batch["pairs"]) - len(pairs) / steps) <= book.parts
        assert len(batch["candidates"]) == 7
        assert {item for (item,) in batch["candidates"]} <= items
        for user, positive, negative in batch["pairs"]:
            assert positive in lists[user]
            assert negative in items
            assert negative not in lists[user]
        result += [(user, positive) for user, positive, _ in batch["pairs"]]
    users, ranks = user_nodes(book), item_nodes(book)
    assert sorted(result) == sorted((users[u], ranks[i]) for u, i in pairs)


def test_epochs_differ_and_any_step_can_be_drawn_first():
    book, pairs = PartitionBook((5, 5), (6, 6)), [(u, i) for u in range(10) for i in range(12) if (u + i) % 3]
    job = sampling_job(2, "training.batch_size=8")
    one, again = seed_samplers(book, pairs, 1, job), seed_samplers(book, pairs, 1, job)
    batches = {(epoch, step): drawn(one, epoch, step) for epoch in range(3) for step in range(4)}
    for at in reversed(batches):
        assert drawn(again, *at) == batches[at]
    assert len({str(batch) for batch in batches.values()}) == len(batches)


@pytest.mark.parametrize("steps", [1, 3, 5, 11])
def test_epochs_of_some_steps_go_on_where_the_one_before_ended(steps):
    book, pairs = PartitionBook((5, 5), (6, 6)), [(u, i) for u in range(10) for i in range(12) if (u + i) % 3]
    whole = seed_samplers(book, pairs, 1, sampling_job(2, "training.batch_size=16"))[0]
    job = sampling_job(2, "training.batch_size=16", f"training.steps_per_epoch={steps}")
    some = seed_samplers(book, pairs, 1, job)[0]
    assert (whole.steps, some.steps) == (5, steps)

    def dealt(sampler: SeedSampler, count: int) -> list[list[tuple[int, int]]]:
        seeds = [sampler.draw(*divmod(number, sampler.steps)) for number in range(count)]
        return [sorted(zip(s.users.tolist(), s.positives.tolist(), strict=True)) for s in seeds]

    assert dealt(some, 15) == dealt(whole, 15)  # three passes


def test_candidates_are_half_positives_of_the_partitions_share():
    book = PartitionBook((3, 0, 3), (4, 8, 4))
    pairs = [(u, u) for u in range(3)] + [(3 + u, 13 + u) for u in range(3)]
    job = sampling_job(3, "training.batch_size=6", "losses.candidates=100")
    sampler = seed_samplers(book, pairs, 1, job)[0]
    seeds = sampler.draw(0, 0)
    assert len(seeds.candidates) == 100
    shares = seeds.candidates.split(
        [33, 33, 34]
    )  # the second partition has no pairs: all of its share is uniform
    for share, part, count in ((shares[0], 0, 16), (shares[2], 2, 17)):
        assert set(share[:count].tolist()) <= set(range(*book.item_range(part)))
    for part in (0, 2):
        own = range(*book.item_range(part))
        assert sum(item not in own for item in shares[part].tolist()) > 5
    assert len(set(shares[1].tolist())) > 8


def test_no_candidates_of_its_own_when_all_items_are():
    job = sampling_job(1, "losses.candidates=all")
    sampler = seed_samplers(PartitionBook((2,), (3,)), [(0, 0), (1, 1)], 1, job)[0]
    assert len(sampler.draw(0, 0).candidates) == 0


@pytest.mark.parametrize("unknown", [1, 2, 10, 60])
def test_negatives_are_uniform_over_unknown_items(unknown):
    """Also where 64 items hide one or two unknown ones, so that rejection gives up and the complement is
    listed."""
    book = PartitionBook((1, 1), (40, 24))
    chosen = torch.randperm(64, generator=torch.Generator().manual_seed(unknown))
    left = sorted(chosen[:unknown].tolist())
    pairs = [(0, item) for item in range(64) if item not in left] + [(1, 63)]
    sampler = seed_samplers(book, pairs, 1, sampling_job(2, "training.batch_size=1000"))[0]
    items = item_nodes(book)
    counts: Counter[int] = Counter()
    while counts.total() < 3000:
        seeds = sampler.draw(counts.total(), 0)  # every total is another epoch
        counts.update(seeds.negatives[seeds.users == 0].tolist())
    assert set(counts) == {items[rank] for rank in left}
    assert unknown == 1 or stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_user_that_knows_everything_gives_no_pairs(workers):
    book = PartitionBook((2, 1), (2, 1))
    pairs = [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1)]
    samplers = seed_samplers(book, pairs, workers, sampling_job(2, "training.batch_size=2"))
    assert {sampler.left_out for sampler in samplers} == {(1, 3)}
    assert {sampler.steps for sampler in samplers} == {2}
    users, items = user_nodes(book), item_nodes(book)
    for epoch in range(3):
        pairs_of_epoch = [pair[:2] for step in range(2) for pair in drawn(samplers, epoch, step)["pairs"]]
        assert sorted(pairs_of_epoch) == sorted(
            (users[user], items[item]) for user, item in pairs if user != 1
        )


@pytest.mark.parametrize("workers", [1, 2])
def test_users_who_all_know_everything_leave_no_pairs(workers):
    book = PartitionBook((1, 1), (1, 1))
    with pytest.raises(InputError, match="found every user with all 2 items"):
        seed_samplers(book, [(0, 0), (0, 1), (1, 0), (1, 1)], workers, sampling_job(2))


@given(small_graphs(), st.sampled_from([0.0, 0.5]), st.data())
def test_pairs_by_user_are_the_same_whoever_owns_them(case, exponent, data):
    book, pairs = case
    job = sampling_job(
        book.parts, f"training.batch_size={book.parts + 3}", f"training.user_exponent={exponent}"
    )
    workers = data.draw(st.integers(1, book.parts))
    one, several = seed_samplers(book, pairs, 1, job), seed_samplers(book, pairs, workers, job)
    lists, epoch = neighbours_of(book, pairs), data.draw(st.integers(0, 2))
    dealt = 0
    for step in range(one[0].steps):
        batch = drawn(several, epoch, step)
        assert batch == drawn(one, epoch, step)
        assert all(positive in lists[user] for user, positive, _ in batch["pairs"])
        dealt += len(batch["pairs"])
    assert len(pairs) <= dealt < len(pairs) + book.parts


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_a_user_gives_pairs_by_the_power_of_its_interactions(exponent):
    degrees = [1, 4, 9, 16, 25, 2]
    pairs = [(user, item) for user, degree in enumerate(degrees) for item in range(degree)]
    job = sampling_job(2, "training.batch_size=10", f"training.user_exponent={exponent}")
    sampler = seed_samplers(PartitionBook((3, 3), (20, 20)), pairs, 1, job)[0]
    # A partition's share of the 57 pairs, rounded up, by the powers of its users' interactions: 1, 4 and 9 in
    # the first, 16, 25 and 2 in the second.
    parts = {0.0: (29, 29), 0.5: (21, 37)}[exponent]
    items: Counter[int] = Counter()
    for epoch in range(60):
        users = Counter()
        for step in range(sampler.steps):
            seeds = sampler.draw(epoch, step)
            users.update(seeds.users.tolist())
            items.update(seeds.positives[seeds.users == 2].tolist())
        for shares, count in zip(((0, 1, 2), (3 + 20, 4 + 20, 5 + 20)), parts, strict=True):
            of_part = [users[row] for row in shares]  # of users; rows of their part's items follow
            assert sum(of_part) == count
            own = [degrees[row if row < 3 else row - 20] ** exponent for row in shares]
            expected = [sum(of_part) * share / sum(own) for share in own]
            assert all(abs(n - e) <= 1 for n, e in zip(of_part, expected, strict=True))
    assert len(items) == 9  # of the third user, each of its interactions now and then
    assert min(items.values()) > sum(items.values()) / 9 / 2


def test_users_who_know_every_item_give_no_pairs_by_user():
    pairs = [(user, item) for user, known in enumerate((4, 1, 2, 4)) for item in range(known)]
    job = sampling_job(2, "training.batch_size=4", "training.user_exponent=0")
    sampler = seed_samplers(PartitionBook((2, 2), (2, 2)), pairs, 1, job)[0]
    assert sampler.left_out == (2, 8)
    seeds = [sampler.draw(epoch, 0) for epoch in range(20)]
    assert {user for drawn_now in seeds for user in drawn_now.users.tolist()} == {1, 4}
    assert {drawn_now.pairs for drawn_now in seeds} == {4}  # half of three pairs each, rounded up
