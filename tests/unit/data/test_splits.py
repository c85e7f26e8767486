"""Splits partition the interactions, whatever the users; small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmssl_dist.data import splits

users_of = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(
    lambda raw: np.unique(np.asarray(raw, np.int64), return_inverse=True)[1].astype(np.int64)
)
shares = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


@given(users_of, shares, st.integers(0, 2**32))
def test_ratio_takes_its_share_of_every_user_and_leaves_training(users, share, seed):
    rng = np.random.default_rng(seed)
    people = int(users.max()) + 1
    draws = (rng.random(people), rng.random(people))
    held = splits.ratio(users, rng.random(len(users)), draws, *share)
    assert set(held.tolist()) <= {0, 1, 2}
    for user in range(people):
        counts = np.bincount(held[users == user], minlength=3)
        assert counts[0] >= 1
        if counts[0] > 1:  # nothing had to be given back to training
            assert abs(counts[1] - counts.sum() * share[0]) < 1 + 1e-9
            assert abs(counts[2] - counts.sum() * share[1]) < 1 + 1e-9


@given(users_of, shares, st.integers(0, 2**32))
def test_ratio_does_not_depend_on_the_order_of_rows(users, share, seed):
    rng = np.random.default_rng(seed)
    people = int(users.max()) + 1
    draws, order = (rng.random(people), rng.random(people)), rng.random(len(users))
    shuffled = rng.permutation(len(users))
    held = splits.ratio(users, order, draws, *share)
    np.testing.assert_array_equal(
        splits.ratio(users[shuffled], order[shuffled], draws, *share), held[shuffled]
    )


def test_ratio_rounds_without_bias():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(4000), 4)  # 0.1 of four interactions is less than half of one
    held = splits.ratio(
        users=users,
        order=rng.random(len(users)),
        draws=(rng.random(4000), rng.random(4000)),
        validation=0.1,
        test=0.2,
    )
    np.testing.assert_allclose(np.bincount(held) / len(users), [0.7, 0.1, 0.2], atol=0.01)


def test_ratio_by_hand():
    users, order = np.array([0, 0, 0, 0, 0, 1]), np.array([5, 1, 4, 2, 3, 0])
    half = np.array(
        [0.5, 0.5]
    )  # user 0: two for test, one for validation; user 1 keeps its only one for training
    held = splits.ratio(users=users, order=order, draws=(half, half), validation=0.2, test=0.4)
    assert held.tolist() == [0, 2, 0, 2, 1, 0]


def test_leave_last_out_by_hand():
    users = np.array([2, 0, 0, 1, 0, 1, 0])
    time = np.array([9, 5, 7, 1, 6, 2, 4])
    held = splits.leave_last_out(users, time, np.zeros(7))
    assert held.tolist() == [0, 0, 2, 0, 1, 2, 0]  # user 2 has one, user 1 two, user 0 four interactions


@given(users_of, st.integers(0, 2**32))
def test_leave_last_out_takes_the_latest_two(users, seed):
    rng = np.random.default_rng(seed)
    time, order = rng.integers(0, 5, len(users)), rng.permutation(len(users))
    held = splits.leave_last_out(users, time, order)
    for user in np.unique(users):
        mine = np.flatnonzero(users == user)
        latest = mine[np.lexsort((order[mine], time[mine]))].tolist()
        expected = [0] * len(latest)
        if len(latest) >= 2:
            expected[-1] = 2
        if len(latest) >= 3:
            expected[-2] = 1
        assert held[latest].tolist() == expected


@given(
    st.one_of(
        arrays(np.int64, st.integers(1, 50), elements=st.integers(-(2**63), 2**63 - 1)),
        arrays(np.float64, st.integers(1, 50), elements=st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_time_keys_keep_the_order(time):
    keys = splits.time_keys(time)
    assert keys.dtype == np.uint64
    np.testing.assert_array_equal(keys[:, None] < keys[None], time[:, None] < time[None])
    np.testing.assert_array_equal(keys[:, None] == keys[None], time[:, None] == time[None])


@given(
    arrays(np.int64, st.integers(1, 60), elements=st.integers(-(2**40), 2**40) | st.integers(0, 3)), st.data()
)
def test_digits_find_the_exact_order_statistic(time, data):
    rank = data.draw(st.integers(0, len(time) - 1))
    keys = splits.time_keys(time)
    parts = np.array_split(keys, 3)
    prefix, left = 0, rank
    for level in range(splits.RADIX_PASSES):
        digit, left = splits.select_digit([splits.digit_counts(part, prefix, level) for part in parts], left)
        prefix = (prefix << splits.RADIX_BITS) | digit
    assert prefix == int(np.sort(keys)[rank])


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((20, 30), [0, 0, 1, 1, 2]),
        ((20, None), [0, 0, 1, 1, 1]),
        ((None, None), [0] * 5),
        ((30, 30), [0, 0, 0, 0, 2]),
    ],
)
def test_temporal_by_hand(thresholds, expected):
    assert splits.temporal(np.array([5, 19, 20, 29, 30], np.uint64), *thresholds).tolist() == expected


def test_temporal_ranks_are_the_shares():
    assert splits.temporal_ranks(10, 0.1, 0.2) == (7, 8)
    assert splits.temporal_ranks(10, 0.0, 0.2) == (8, 8)
    assert splits.temporal_ranks(10, 0.3, 0.0) == (7, 10)
