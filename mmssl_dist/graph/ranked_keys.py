"""A neighbour and its score as one integer: larger is better, and of equal scores the lower id. Lists of them
merge by sorting, in any order of arrival."""

from __future__ import annotations

import numpy as np

NO_KEY = np.iinfo(np.int64).min  # below every key, so that any neighbour takes its place
_LOW = 0xFFFFFFFF


def keys_of(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """int64 keys of float32 scores and ids below 2^32, of one shape."""
    bits = scores.astype(np.float32).view(np.int32)
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as integers, floats below zero descend
    return np.asarray((ascending.astype(np.int64) << 32) | (_LOW - ids), np.int64)


def ids_in(keys: np.ndarray) -> np.ndarray:
    """int64 ids; of no meaning for EMPTY."""
    return np.asarray(_LOW - (keys & _LOW), np.int64)


def merged(best: np.ndarray, more: np.ndarray) -> np.ndarray:
    """[n, K] the largest of both [n, K] and [n, M], ascending."""
    both = np.concatenate([best, more], 1)
    both.sort(1)
    return both[:, both.shape[1] - best.shape[1] :]
