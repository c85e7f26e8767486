"""SplitMix64: the bits that published ids, partitions and draws rest on, in every form of it."""

from __future__ import annotations

import numpy as np
import torch

from mmssl_dist.kernels.bits import splitmix64
from mmssl_dist.kernels.compiling import kernel
from mmssl_dist.kernels.keyed import mix_words
from mmssl_dist.kernels.splitmix import GOLDEN, finalize, mix, mix_word, salt

# The first outputs of the published generator for the state 0: see Vigna's splitmix64.c.
PUBLISHED = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)


@kernel("void(uint64[::1], uint64[::1])")
def compiled(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(values)):
        out[i] = splitmix64(values[i])


def test_the_generator_is_the_published_one():
    states = [position * GOLDEN % 2**64 for position in range(3)]
    assert tuple(mix_word(state) for state in states) == PUBLISHED


def test_arrays_kernels_tensors_and_integers_agree():
    values = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)
    values[:2] = 0, 2**64 - 1
    expected = np.asarray([mix_word(int(value)) for value in values], np.uint64)
    out = np.empty_like(values)
    compiled(values, out)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(mix(values + np.uint64(GOLDEN)), expected)
    words = mix_words(torch.from_numpy(values.view(np.int64).copy()))
    np.testing.assert_array_equal(words.numpy().view(np.uint64), expected)


def test_mixing_leaves_its_argument_alone_and_finalizing_does_not():
    values = np.arange(5, dtype=np.uint64)
    mixed = mix(values)
    assert values.tolist() == [0, 1, 2, 3, 4]
    assert finalize(values) is values
    np.testing.assert_array_equal(values, mixed)


def test_salts_are_the_ones_that_datasets_were_split_with():
    assert int(salt(7, 3)) == 3089013247233945531
