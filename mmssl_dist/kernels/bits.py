"""Words of bits inside kernels: SplitMix64, counting bits, sets of ids with ranks.

A set of ids below n has one bit an id in ``bits`` [n // 64 + 1] uint64, and in ``before`` the number of
members below each word's first, so that the rank of a member takes two reads. Both fit the processor's cache
where a table with a number per id would not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmssl_dist.kernels import splitmix
from mmssl_dist.kernels.compiling import helper, kernel

GOLDEN = np.uint64(splitmix.GOLDEN)
ONE, S6, _LOW6 = np.uint64(1), np.uint64(6), np.uint64(63)
# Masks of the population count that adds bits in pairs, fours and bytes.
_M1, _M2 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_M4, _H01 = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_S2, _S4, _S56 = np.uint64(2), np.uint64(4), np.uint64(56)


_finalize = helper(splitmix.finalize)


@helper
def splitmix64(value: Any) -> Any:
    """The golden increment and the finalizer of a uint64."""
    return _finalize(value + GOLDEN)


@helper
def count_bits(word: Any) -> Any:
    """Bits set in a word; LLVM turns this form into the processor's instruction."""
    word = word - ((word >> ONE) & _M1)
    word = (word & _M2) + ((word >> _S2) & _M2)
    word = (word + (word >> _S4)) & _M4
    return np.int64((word * _H01) >> _S56)


@helper
def contains(bits: np.ndarray, member: Any) -> Any:
    """Whether ``member`` is in the set."""
    return (bits[np.uint64(member) >> S6] >> (np.uint64(member) & _LOW6)) & ONE != np.uint64(0)


@helper
def rank(bits: np.ndarray, before: np.ndarray, member: Any) -> Any:
    """Members of the set below ``member``."""
    word = np.uint64(member) >> S6
    below = (ONE << (np.uint64(member) & _LOW6)) - ONE
    return before[word] + count_bits(bits[word] & below)


@kernel("int64(uint64[::1], int64, int64[::1])", "int64(uint64[::1], int64, int32[::1])")
def add(bits: np.ndarray, count: int, ids: np.ndarray) -> int:
    """Put ``ids`` into the set; returns how many of them are not in range(count)."""
    outside = 0
    for i in range(len(ids)):
        member = np.int64(ids[i])
        if member < 0 or member >= count:
            outside += 1
        else:
            bits[np.uint64(member) >> S6] |= ONE << (np.uint64(member) & _LOW6)
    return outside


@kernel("int64(uint64[::1], int64[::1])")
def count_before(bits: np.ndarray, before: np.ndarray) -> int:
    """Fill ``before``; returns the size of the set."""
    total = 0
    for word in range(len(bits)):
        before[word] = total
        total += count_bits(bits[word])
    return total


@kernel("void(uint64[::1], int64[::1])")
def members(bits: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with the members, ascending."""
    at = 0
    for number in range(len(bits)):
        word = bits[number]
        # One turn for each member instead of one for each bit: sets of a batch are sparse.
        while word != np.uint64(0):
            # Two's complement: the lowest set bit alone. The bits below it, counted, are its number.
            lowest = word & (~word + ONE)
            out[at] = (number << 6) + count_bits(lowest - ONE)
            at += 1
            word ^= lowest


@kernel(
    "void(uint64[::1], int64[::1], int64[::1], int64[::1])",
    "void(uint64[::1], int64[::1], int32[::1], int64[::1])",
)
def ranks(bits: np.ndarray, before: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with the rank of each of ``ids``, all of them members."""
    for i in range(len(ids)):
        out[i] = rank(bits, before, np.int64(ids[i]))
