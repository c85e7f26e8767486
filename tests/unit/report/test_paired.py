"""Intervals and tests over users, against cases by hand and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl_dist.report.paired import holm, interval, resampled_means, sign_flip_p


def test_all_users_alike_leave_no_doubt():
    means = resampled_means(np.array([[0.25] * 7, [0.5] * 7]), 50)
    assert means.shape == (50, 2)
    assert interval(means[:, 0]) == (0.25, 0.25)
    assert interval(means[:, 1] - means[:, 0]) == (0.25, 0.25)


def test_the_same_users_are_drawn_for_all():
    values = np.random.default_rng(0).random(500)
    means = resampled_means(np.stack([values, values + 0.1]), 100)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.1)  # apart, each moves by .013
    assert means[:, 0].std() == pytest.approx(values.std() / 500**0.5, rel=0.25)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = interval(resampled_means(rng.exponential(1.0, (1, 200)), 400)[:, 0])
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 200 <= 0.985  # .95 but for the skew of 200 users and 200 trials


def test_sign_flips_by_hand():
    assert sign_flip_p(np.zeros(9)) == 1.0
    assert sign_flip_p(np.array([1.0, 1.0, 1.0])) == 2 / 8  # only +++ and --- are as far from 0
    assert sign_flip_p(np.array([3.0, 0.0, -1.0])) == 1.0  # |2| is the least there is: 2, 4, -4, -2
    assert sign_flip_p(np.array([0.1, 0.2, 0.3, 0.0])) == 2 / 8
    assert sign_flip_p(np.array([2.0, 2.0, -1.0])) == 4 / 8  # sums +-5, +-3 (at least 3), +-1 twice


def test_draws_agree_with_all_patterns():
    rng = np.random.default_rng(2)
    difference = rng.normal(0.3, 1, 12)
    exact = sign_flip_p(difference)
    # a 13th user too small to matter goes beyond what is looked at pattern by pattern
    assert sign_flip_p(np.append(difference, 1e-15)) == pytest.approx(exact, abs=0.015)


def test_a_clear_difference_and_none():
    rng = np.random.default_rng(3)
    assert sign_flip_p(rng.normal(0.5, 1, 500)) == pytest.approx(1 / 10_001)
    p_values = [sign_flip_p(rng.normal(0, 1, 50), 500) for _ in range(200)]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 3 x .01, then 2 x .03, then 1 x .04 < .06
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
