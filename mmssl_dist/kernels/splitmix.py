"""SplitMix64, the mixer behind every hash and keyed draw, written once for arrays, integers and kernels.

It imports neither torch nor Numba, so that the packages that prepare data start without them.
Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WORD = (1 << 64) - 1
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# As uint64, since Numba makes floats of an unsigned and a signed integer together.
_FIRST, _SECOND = np.uint64(FIRST), np.uint64(SECOND)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def finalize(value: Any) -> Any:
    """The finalizer alone: a bijection of 64 bits without visible structure.

    value: a uint64 array, which is changed in place and returned, or inside a kernel a uint64.
    """
    value ^= value >> _S30
    value *= _FIRST
    value ^= value >> _S27
    value *= _SECOND
    value ^= value >> _S31
    return value


def mix(values: np.ndarray) -> np.ndarray:
    """[n] uint64 -> [n] uint64: ``finalize`` of a copy. Published ids and partitions depend on its bits."""
    mixed: np.ndarray = finalize(values.astype(np.uint64, copy=True))
    return mixed


def mix_word(value: int) -> int:
    """The golden increment and the finalizer of a Python integer in [0, 2^64)."""
    # ``finalize`` in Python's integers: an array of one takes fifty times as long, for forty keys a batch
    value = (value + GOLDEN) & WORD
    value = ((value ^ (value >> 30)) * FIRST) & WORD
    value = ((value ^ (value >> 27)) * SECOND) & WORD
    return value ^ (value >> 31)


def salt(seed: int, purpose: int) -> np.uint64:
    """A number to xor hashes with, so that draws for different seeds and purposes are independent."""
    return np.uint64(mix(np.asarray([(seed << 8) + purpose + 1], np.uint64))[0])
