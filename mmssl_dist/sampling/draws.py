"""Stateless randomness: every draw is a pure function of integer keys, so it depends neither on the number of
workers nor on what was drawn before, and is the same on CPU and GPU."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels.keyed import hash_words, shift_right, uniform
from mmssl_dist.kernels.splitmix import WORD, mix_word

__all__ = ["Purpose", "generator", "integers", "key", "normal", "uniform"]


class Purpose(IntEnum):
    """What a draw is for; part of its key, so that two purposes never share numbers. Values are kept for
    good."""

    SPLIT = 1
    INIT = 2
    PERMUTATION = 3
    NEGATIVES = 4
    CANDIDATES = 5
    FANOUT = 6
    VIEW = 7
    DROPOUT = 8
    GUMBEL = 9
    PENALTY = 10
    BOOTSTRAP = 11
    CRITIC = 12
    SIMILAR = 13
    RANKED_USERS = 14


def key(*parts: int) -> int:
    """A 63-bit key from any integers (seed, epoch, step, partition, purpose, ...); their order counts."""
    # The number of parts goes in first, so that (1,) and (1, 0) are different keys.
    state = mix_word(len(parts))
    for part in parts:
        state = mix_word(state ^ (int(part) & WORD))
    # 63 bits, so that the key is a non-negative int64 in torch too.
    return state >> 1


def integers(key: int, high: int, *ids: Tensor) -> Tensor:
    """Int64 in [0, high), one per element of the ids broadcast together; the bias, high / 2^63, is out of
    sight."""
    return shift_right(hash_words(key, ids), 1).remainder_(high)


def normal(key: int, *ids: Tensor) -> Tensor:
    """Standard normal float32, one per element of the ids broadcast together; within 5.3 standard
    deviations."""
    return torch.erfinv(uniform(key, *ids).mul_(2.0).sub_(1.0)).mul_(2.0**0.5)


def generator(key: int) -> np.random.Generator:
    """A numpy generator of its own for ``key``, for draws whose number is not known beforehand."""
    # Philox takes the key as it is, so that the stream is a function of it alone.
    return np.random.Generator(np.random.Philox(key=key))
