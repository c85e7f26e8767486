"""How interactions become training, validation and test sets. Codes 0, 1, 2 as in ``columns.SPLITS``.

Everything here is a pure function of arrays: the same interactions in another order get the same splits.
"""

# N interactions, U users

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mmssl_dist.data.order import order_within

RADIX_BITS = 16
RADIX_PASSES = 64 // RADIX_BITS


def ratio(
    users: np.ndarray, order: np.ndarray, draws: tuple[np.ndarray, np.ndarray], validation: float, test: float
) -> np.ndarray:
    """Per user, at random.

    A user with n interactions gets n * share of them in a split, rounded up or down so that the mean over
    users is exact; one at least stays for training.

    Args:
        users: [N] int64, 0..U-1.
        order: [N] random numbers: those of a user that come first are taken.
        draws: two [U] arrays in [0, 1): where to round, for validation and for test.
        validation: share of validation.
        test: share of test.

    Returns:
        [N] int8.
    """
    counts = np.bincount(users, minlength=len(draws[0]))
    # Rounded at random by user: always rounding down would leave users of few interactions without any test.
    tests = np.minimum(np.floor(counts * test + draws[1]), np.maximum(counts - 1, 0))
    validations = np.minimum(np.floor(counts * validation + draws[0]), np.maximum(counts - 1 - tests, 0))
    slots, sorted_users, rank = _ranks(users, counts, order_within(users, order))
    held = np.where(rank < tests[sorted_users], 2, np.where(rank < (tests + validations)[sorted_users], 1, 0))
    return _scatter(held, slots)


def leave_last_out(users: np.ndarray, time: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each user's latest interaction is for the test, the one before for validation; equal times by
    ``order``.

    A user with two interactions has no validation, a user with one only training.

    Returns:
        [N] int8.
    """
    counts = np.bincount(users)
    slots, sorted_users, rank = _ranks(users, counts, np.lexsort((order, time, users)))
    from_end = counts[sorted_users] - 1 - rank
    # Training keeps one interaction at least, without which the user's row would never be learned.
    held = np.where((from_end == 0) & (counts[sorted_users] >= 2), 2, 0)
    held = np.where((from_end == 1) & (counts[sorted_users] >= 3), 1, held)
    return _scatter(held, slots)


def temporal(keys: np.ndarray, first_validation: int | None, first_test: int | None) -> np.ndarray:
    """By time over all: keys (``time_keys``) at or after a threshold are in its split; equal times stay
    together.

    Returns:
        [N] int8.
    """
    held = np.zeros(len(keys), np.int8)
    if first_validation is not None:
        held[keys >= np.uint64(first_validation)] = 1
    if first_test is not None:
        held[keys >= np.uint64(first_test)] = 2
    return held


def temporal_ranks(total: int, validation: float, test: float) -> tuple[int, int]:
    """Positions, among all ``total`` interactions by time, of the first for validation and of the first for
    test."""
    return round(total * (1.0 - validation - test)), round(total * (1.0 - test))


def time_keys(time: np.ndarray) -> np.ndarray:
    """[N] uint64 in the order of ``time``, which is int64 or float64 and finite."""
    sign = np.uint64(1 << 63)
    if time.dtype.kind == "f":
        bits = (time.astype(np.float64) + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one time
        # IEEE order as unsigned integers: negative numbers reversed, positive ones above them.
        return np.where(bits & sign, ~bits, bits | sign)
    # Two's complement becomes ascending unsigned when the sign bit is flipped.
    return time.astype(np.int64).view(np.uint64) ^ sign


def digit_counts(keys: np.ndarray, prefix: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the keys whose first ``level`` digits (16 bits each) are ``prefix``: their next digits, and how
    often each."""
    shift = 64 - RADIX_BITS * (level + 1)
    if level:
        keys = keys[keys >> np.uint64(shift + RADIX_BITS) == np.uint64(prefix)]
    digit = ((keys >> np.uint64(shift)) & np.uint64((1 << RADIX_BITS) - 1)).astype(np.int64)
    counts = np.bincount(digit, minlength=1 << RADIX_BITS)
    digits = np.flatnonzero(counts)
    return digits, counts[digits]


def select_digit(parts: Iterable[tuple[np.ndarray, np.ndarray]], rank: int) -> tuple[int, int]:
    """The digit of the key at position ``rank`` given all parts' counts, and its position among its like."""
    total = np.zeros(1 << RADIX_BITS, np.int64)
    for digits, counts in parts:
        total[digits] += counts
    ends = np.cumsum(total)
    digit = int(np.searchsorted(ends, rank, side="right"))
    return digit, int(rank - (ends[digit] - total[digit]))


def _ranks(users: np.ndarray, counts: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, ...]:
    sorted_users = users[slots]
    starts = np.cumsum(counts) - counts
    return slots, sorted_users, np.arange(len(users)) - starts[sorted_users]


def _scatter(held: np.ndarray, slots: np.ndarray) -> np.ndarray:
    result = np.empty(len(held), np.int8)
    result[slots] = held
    return result
