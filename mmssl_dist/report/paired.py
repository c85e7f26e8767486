"""How sure a mean over users is, and a difference between two rankings of the same users: bootstrap, sign
flips, Holm.

Every draw follows a fixed seed, so a comparison made twice reads the same. Users are the units; seeds are not
drawn.

Shapes: n users, R rankings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2_000
FLIPS = 10_000
SMALLEST_P = 1 / (1 + FLIPS)
"""The least that ``sign_flip_p`` can return from draws: a bound, no measured value."""
_SEED = 20_220
_EXACT = 12  # users that differ, up to which all sign patterns are looked at: 4,096
_CELLS = 1 << 22  # signs drawn at once
_ROUNDING = 1e-12  # relative; sums that are equal but for the order of their terms count as equal

ConfidenceInterval = tuple[float, float]


def resampled_means(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """float64 [resamples, R]: means over users drawn n at a time with replacement, the same users for all
    rankings.

    Args:
        values: [R, n] a metric of each user; n at least 1.
    """
    rng, n = np.random.default_rng(_SEED), values.shape[1]
    means = np.empty((resamples, len(values)))
    for row in means:  # one resample at a time: n draws are held, not resamples x n
        row[:] = values @ np.bincount(rng.integers(n, size=n), minlength=n) / n
    return means


def interval(means: np.ndarray) -> ConfidenceInterval:
    """The middle 95 % of resampled means [resamples] (percentile bootstrap)."""
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def sign_flip_p(difference: np.ndarray, flips: int = FLIPS) -> float:
    """Two-sided p-value of the paired permutation test: how often a mean as far from 0 comes about if each
    user's two values were swapped or not by the toss of a coin.

    Exact when at most 12 users differ; otherwise from ``flips`` draws, the data's own pattern counted as one
    of them.

    Args:
        difference: [n] one ranking's metric minus the other's, user by user.
    """
    differing = difference[difference != 0].astype(np.float64)
    n = len(differing)
    least = abs(differing.sum()) - _ROUNDING * np.abs(differing).sum()
    if n <= _EXACT:
        patterns = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs(differing.sum() - 2 * (patterns @ differing)) >= least))
    rng, extreme, left = np.random.default_rng(_SEED), 0, flips
    while left:
        rows = min(left, max(1, _CELLS // n))
        swapped = rng.integers(0, 2, size=(rows, n), dtype=np.int8)
        extreme += int((np.abs(differing.sum() - 2 * (swapped @ differing)) >= least).sum())
        left -= rows
    return (1 + extreme) / (1 + flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, step-down (Holm, 1979), in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
