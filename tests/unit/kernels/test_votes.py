"""What rows hear from their neighbours, and sums of neighbours' rows, beside loops in Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmssl_dist.graph.distinct import distinct_ids
from mmssl_dist.kernels.sums import scaled_sums
from mmssl_dist.kernels.votes import best_labels, wishes

ROWS, NEIGHBOURS, LABELS = 60, 40, 9


@pytest.fixture
def lists() -> tuple[np.ndarray, np.ndarray]:
    """Row starts and neighbours; some rows have none, one has more than a kernel's scratch."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 12, ROWS)
    lengths[7] = 3000
    return np.concatenate([[0], np.cumsum(lengths)]), rng.integers(0, NEIGHBOURS, lengths.sum()).astype(
        np.int32
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_the_label_with_most_weight_wins_and_ranks_break_ties(lists, weighted):
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, LABELS, NEIGHBOURS)
    weights = rng.integers(1, 4, NEIGHBOURS) if weighted else np.empty(0, np.int64)
    ranks = rng.integers(0, 3, LABELS)  # so that some are equal
    totals, chosen = np.zeros(LABELS, np.int64), np.empty(ROWS - 5, np.int64)
    best_labels(*lists, labels, weights, ranks, 5, ROWS, totals, chosen)
    for row, label in zip(range(5, ROWS), chosen.tolist(), strict=True):
        votes: Counter[int] = Counter()
        for node in lists[1][lists[0][row] : lists[0][row + 1]].tolist():
            votes[int(labels[node])] += int(weights[node]) if weighted else 1
        votes.pop(-1, None)
        assert label == max(votes, key=lambda x: (votes[x], ranks[x], -x), default=-1)
    assert not totals.any()


def test_more_labels_than_the_scratch_holds():
    labels = np.arange(5000)
    totals, chosen = np.zeros(5000, np.int64), np.empty(1, np.int64)
    columns = np.append(np.arange(5000), 4321)
    ranks = np.zeros(5000, np.int64)
    best_labels(np.array([0, 5001]), columns, labels, np.empty(0, np.int64), ranks, 0, 1, totals, chosen)
    assert chosen.tolist() == [4321]


def test_rows_want_the_part_with_most_neighbours_and_room(lists):
    rng = np.random.default_rng(2)
    parts, now = rng.integers(0, 4, NEIGHBOURS), rng.integers(0, 5, ROWS)
    room = np.array([0.3, 0.0, 0.25, 0.5, 0.6])
    wanted, gain = np.empty(ROWS, np.int64), np.empty(ROWS)
    wishes(*lists, parts, now, room, 0, ROWS, 1e-3, 4, wanted, gain)
    for row in range(ROWS):
        votes = Counter(parts[lists[1][lists[0][row] : lists[0][row + 1]]].tolist())
        scores = {part: (votes[part] + 1e-3) * room[part] for part in {*votes, 4, int(now[row])}}
        best = max(scores.values())
        if best == scores[now[row]]:
            assert (wanted[row], gain[row]) == (now[row], 0.0)
        else:
            assert scores[wanted[row]] == best
            assert gain[row] == pytest.approx((best - scores[now[row]]) / best)
    assert (wanted != now).any()


def test_nobody_moves_where_every_part_is_full(lists):
    wanted, gain = np.empty(ROWS, np.int64), np.empty(ROWS)
    now = np.arange(ROWS) % 3
    wishes(*lists, np.zeros(NEIGHBOURS, np.int64), now, np.zeros(3), 0, ROWS, 1e-3, 0, wanted, gain)
    assert (wanted == now).all()
    assert not gain.any()


def test_sums_are_those_of_float64_in_the_order_of_the_list(lists):
    source = np.random.default_rng(3).normal(size=(NEIGHBOURS, 5)).astype(np.float32)
    scale = np.linspace(0.1, 2.0, ROWS)
    sums = scaled_sums(*lists, source=source, scale=scale)
    for row in range(ROWS):
        total = np.zeros(5)
        for node in lists[1][lists[0][row] : lists[0][row + 1]]:
            total += source[node]
        assert (sums[row] == (total * scale[row]).astype(np.float32)).all()


@pytest.mark.parametrize("count", [NEIGHBOURS, 10**8])  # by bits, and by sorting
def test_distinct_ids_and_their_positions(lists, count):
    nodes, positions = distinct_ids(lists[1], count)
    assert nodes.tolist() == sorted(set(lists[1].tolist()))
    assert (nodes[positions] == lists[1]).all()
    assert [part.tolist() for part in distinct_ids(lists[1][:0], count)] == [[], []]
