"""Metrics against cases computed by hand and against a plain loop over users."""

from __future__ import annotations

from math import log2

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl_dist.errors import InputError
from mmssl_dist.evaluation import evaluate
from mmssl_dist.evaluation.evaluate import metrics_of
from mmssl_dist.evaluation.metrics import MetricSums, metric_names, sums_of, user_metrics
from mmssl_dist.evaluation.ranking import Ranking
from tests.graphs import lists_of


def metric_sums(hits: torch.Tensor, positives: torch.Tensor, ks: tuple[int, ...]) -> MetricSums:
    """The sums for lists of items 0, 1, ..., of which those with a hit are held out, and others unlisted."""
    users, length = hits.shape
    held_out = [
        [*row.nonzero().flatten().tolist(), *range(length, length + int(count - row.sum()))]
        for row, count in zip(hits, positives.tolist(), strict=True)
    ]
    nodes = torch.arange(length).expand(users, length)
    ranking = Ranking(nodes, torch.zeros(users, length))
    return sums_of(metrics_of(ranking, torch.arange(users), lists_of(held_out), ks).values, ks)


def by_hand(hits: list[list[int]], positives: list[int], ks: tuple[int, ...]) -> dict[str, float]:
    got = metric_sums(torch.tensor(hits, dtype=torch.bool), torch.tensor(positives), ks)
    assert tuple(got.sums) == metric_names(ks)
    return got.means()


def test_one_hit_at_rank_two_of_five_positives() -> None:
    got = by_hand([[0, 1, 0, 0, 0]], [5], (1, 2, 5))
    ideal = 1 + 1 / log2(3) + 1 / log2(4) + 1 / log2(5) + 1 / log2(6)
    assert got["ndcg@5"] == pytest.approx((1 / log2(3)) / ideal)
    assert got["ndcg@5"] == pytest.approx(0.2140, abs=1e-4)  # 0.63 with an ideal as long as the hits found
    assert got["ndcg@2"] == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    assert (got["recall@1"], got["recall@2"], got["recall@5"]) == (0, 0.2, 0.2)
    assert (got["precision@1"], got["precision@2"], got["precision@5"]) == (0, 0.5, 0.2)
    assert (got["hit_rate@1"], got["hit_rate@2"], got["mrr@1"], got["mrr@5"]) == (0, 1, 0, 0.5)
    assert got["ndcg@1"] == 0


def test_perfect_lists_reach_one_even_with_fewer_positives_than_k() -> None:
    got = by_hand([[1, 1, 0, 0], [1, 1, 1, 1]], [2, 9], (4,))
    assert got["ndcg@4"] == pytest.approx(1)
    assert got["mrr@4"] == got["hit_rate@4"] == 1
    assert got["recall@4"] == pytest.approx((1 + 4 / 9) / 2)
    assert got["precision@4"] == pytest.approx((0.5 + 1) / 2)


def test_users_without_held_out_items_are_not_counted() -> None:
    got = metric_sums(torch.tensor([[True], [False]]), torch.tensor([1, 0]), (1,))
    assert got.users == 1
    assert got.means()["recall@1"] == 1


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hits, positives = torch.rand(9, 20) < 0.2, torch.arange(9)
    hits[0] = False  # who has nothing held out cannot have a hit
    positives = torch.where(positives > 0, hits.sum(1) + positives, 0)
    whole = metric_sums(hits, positives, (5, 20))
    monkeypatch.setattr(evaluate, "USERS_AT_ONCE", 4)
    blocks = metric_sums(hits, positives, (5, 20))
    torch.testing.assert_close(blocks.totals, whole.totals)
    assert blocks.users == whole.users == 8
    assert whole.totals.dtype == torch.float64


def test_no_counted_user_is_bad_input() -> None:
    empty = metric_sums(torch.zeros(0, 3, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), (3,))
    with pytest.raises(InputError, match=r"no user with held-out interactions.*data\.split"):
        empty.means()


def test_lists_shorter_than_k_are_refused() -> None:
    with pytest.raises(ValueError, match="lists of 3 items have no metrics at 4"):
        user_metrics(torch.zeros(1, 3, dtype=torch.bool), torch.ones(1), (4,))


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[bool]], list[int]]:
    length = draw(st.integers(1, 12))
    hits = draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=8))
    positives = [sum(row) + draw(st.integers(0, 5)) for row in hits]
    return hits, positives


@settings(deadline=None, max_examples=60)
@given(rankings(), st.data())
def test_same_as_a_loop_over_users(ranking: tuple[list[list[bool]], list[int]], data: st.DataObject) -> None:
    hits, positives = ranking
    ks = tuple(data.draw(st.lists(st.integers(1, len(hits[0])), min_size=1, max_size=3, unique=True)))
    expected = dict.fromkeys(metric_names(ks), 0.0)
    for row, held in zip(hits, positives, strict=True):
        if held == 0:
            continue
        for k in ks:
            ranks = [rank for rank, hit in enumerate(row[:k], start=1) if hit]
            expected[f"recall@{k}"] += len(ranks) / held
            expected[f"precision@{k}"] += len(ranks) / k
            best = sum(1 / log2(rank + 1) for rank in range(1, min(k, held) + 1))
            expected[f"ndcg@{k}"] += sum(1 / log2(rank + 1) for rank in ranks) / best
            expected[f"hit_rate@{k}"] += bool(ranks)
            expected[f"mrr@{k}"] += 1 / ranks[0] if ranks else 0
    got = metric_sums(torch.tensor(hits), torch.tensor(positives), ks)
    assert got.users == sum(held > 0 for held in positives)
    assert got.sums == pytest.approx(expected, abs=1e-12)
