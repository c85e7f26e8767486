"""Stateless randomness: every draw is a pure function of integer keys, so it depends neither on the number of
workers nor on what was drawn before, and is the same on CPU and GPU."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_UNIFORM_BITS = 23  # (bits + 0.5) / 2^23 is exact in float32 and never 0 or 1


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
    state = _mix_word(len(parts))
    for part in parts:
        state = _mix_word(state ^ (int(part) & _WORD))
    return state >> 1


def uniform(key: int, *ids: Tensor) -> Tensor:
    """Float32 in the open interval (0, 1), one per element of the ids broadcast together, on their device.

    ids: int64 tensors; the number at an element depends on ``key`` and that element's ids alone. Cheapest
        with the
    smallest tensors first. Resolution 2^-23.
    """
    bits = _hash(key, ids)
    bits = _shift(bits, 64 - _UNIFORM_BITS)
    return bits.to(torch.float32).add_(0.5).mul_(2.0**-_UNIFORM_BITS)


def integers(key: int, high: int, *ids: Tensor) -> Tensor:
    """Int64 in [0, high), one per element of the ids broadcast together; the bias, high / 2^63, is out of
    sight."""
    return _shift(_hash(key, ids), 1).remainder_(high)


def normal(key: int, *ids: Tensor) -> Tensor:
    """Standard normal float32, one per element of the ids broadcast together; within 5.3 standard
    deviations."""
    return torch.erfinv(uniform(key, *ids).mul_(2.0).sub_(1.0)).mul_(2.0**0.5)


def generator(key: int) -> np.random.Generator:
    """A numpy generator of its own for ``key``, for draws whose number is not known beforehand."""
    return np.random.Generator(np.random.Philox(key=key))


def _mix_word(value: int) -> int:
    """splitmix64: the golden increment and its finalizer, on Python integers."""
    value = (value + _GOLDEN) & _WORD
    value = ((value ^ (value >> 30)) * _FIRST) & _WORD
    value = ((value ^ (value >> 27)) * _SECOND) & _WORD
    return value ^ (value >> 31)


def _hash(key: int, ids: tuple[Tensor, ...]) -> Tensor:
    """64 mixed bits per element; equals folding ``_mix_word(state ^ id * golden)`` over the ids."""
    state: Tensor | None = None
    for each in ids:
        if each.dtype != torch.int64:
            raise TypeError(f"ids must be int64, got {each.dtype}")
        spread = each * _signed(_GOLDEN)
        state = _mix(spread.bitwise_xor_(_signed(key)) if state is None else spread ^ state)
    if state is None:
        raise TypeError("at least one tensor of ids is needed")
    return state


def _mix(value: Tensor) -> Tensor:
    """``_mix_word`` on a temporary int64 tensor, in place: products and sums wrap around as unsigned ones
    do."""
    value = value.add_(_signed(_GOLDEN))
    value = value.bitwise_xor_(_shift(value, 30)).mul_(_signed(_FIRST))
    value = value.bitwise_xor_(_shift(value, 27)).mul_(_signed(_SECOND))
    return value.bitwise_xor_(_shift(value, 31))


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic on signed integers, hence the mask."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The two's complement reading of a 64-bit word."""
    return word - (1 << 64) if word >= 1 << 63 else word
