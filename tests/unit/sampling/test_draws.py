"""Draws: reproducible by key, uniform, and without relation between neighbouring keys and ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmssl_dist.kernels.splitmix import mix_word
from mmssl_dist.sampling import draws

N = 200_000
KEY = 2228467813697634213
UNIFORM = np.array([0.38982969522476196, 0.9237001538276672, 0.6129747033119202], np.float32)


def reference(key: int, *ids: int) -> float:
    """The definition of ``uniform`` on Python integers."""
    word = (1 << 64) - 1
    state = key
    for part in ids:
        state = mix_word((part * 0x9E3779B97F4A7C15 & word) ^ state)
    return ((state >> 41) + 0.5) / 2**23


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3))
def test_tensors_agree_with_unsigned_arithmetic(key, ids):
    actual = draws.uniform(key, *(torch.tensor([part]) for part in ids))
    assert actual.item() == reference(key, *ids)


def test_a_draw_depends_on_its_own_ids_only():
    rows, columns = torch.arange(1000).unsqueeze(1), torch.arange(7)
    whole = draws.uniform(3, rows, columns)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:50]
    assert torch.equal(draws.uniform(3, rows[order], columns), whole[order])
    assert torch.equal(draws.uniform(3, rows[order, 0], torch.full((50,), 4)), whole[order, 4])
    assert torch.equal(rows, torch.arange(1000).unsqueeze(1))  # ids are not written to


def test_roles_of_ids_differ():
    a, b = torch.arange(100), torch.arange(100, 200)
    assert not torch.equal(draws.uniform(3, a, b), draws.uniform(3, b, a))


@pytest.mark.parametrize("key", [0, 1, draws.key(5, 0, 0)])
def test_uniform_moments_and_distribution(key):
    u = draws.uniform(key, torch.arange(N))
    assert u.dtype == torch.float32
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    u = u.double().numpy()
    assert abs(u.mean() - 1 / 2) < 4 / np.sqrt(12 * N)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / N)
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_extremes_stay_inside():
    top = (torch.tensor([0, 2**23 - 1], dtype=torch.int64).float() + 0.5) * 2.0**-23
    assert 0 < top[0] < top[1] < 1


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 1024])
def test_neighbouring_ids_are_uncorrelated(lag):
    u = draws.uniform(11, torch.arange(N + lag)).double().numpy() - 0.5
    assert abs(np.mean(u[lag:] * u[:-lag]) * 12) < 4 / np.sqrt(N)
    # Joint distribution of neighbours on an 8 x 8 grid
    cells = np.floor((u + 0.5) * 8).astype(int)
    counts = np.bincount(cells[lag:] * 8 + cells[:-lag], minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_neighbouring_keys_rows_and_columns_are_uncorrelated():
    rows, columns = torch.arange(2000).unsqueeze(1), torch.arange(100)
    a = draws.uniform(draws.key(1, 0), rows, columns).double() - 0.5
    b = draws.uniform(draws.key(1, 1), rows, columns).double() - 0.5
    limit = 4 / np.sqrt(N)
    for x, y in (
        (a, b),
        (a[1:], a[:-1]),
        (a[:, 1:], a[:, :-1]),
        (a[1:, 1:], a[:-1, :-1]),
        (a[1:, :-1], a[:-1, 1:]),
    ):
        assert abs((x * y).mean() * 12) < limit
    assert abs(a.mean(1).std() - (1 / 1200) ** 0.5) < 0.002  # row means vary as those of independent draws


def test_raw_keys_in_sequence_are_uncorrelated():
    u = torch.stack([draws.uniform(key, torch.arange(2000)) for key in range(50)]).double() - 0.5
    assert abs((u[1:] * u[:-1]).mean() * 12) < 4 / np.sqrt(49 * 2000)


def test_normal():
    x = draws.normal(draws.key(2), torch.arange(N)).double().numpy()
    assert np.isfinite(x).all()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(x)) < 0.06


def test_integers_are_even():
    counts = torch.bincount(draws.integers(9, 7, torch.arange(70_000)), minlength=7)
    assert counts.shape == (7,)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    far = draws.integers(9, 10**12, torch.arange(1000))
    assert far.min() >= 0
    assert far.max() > 9 * 10**11


def test_keys():
    parts = [(), (0,), (0, 0), (1,), (0, 1), (1, 0), (-1,), (2**64 - 2,), (draws.Purpose.GUMBEL, 1)]
    keys = {draws.key(*p) for p in parts}
    assert len(keys) == len(parts)
    assert all(0 <= k < 2**63 for k in keys)
    assert draws.key(5, draws.Purpose.DROPOUT, 7) == draws.key(5, 8, 7)
    seen = {draws.key(seed, epoch, step) for seed in range(20) for epoch in range(20) for step in range(50)}
    assert len(seen) == 20_000


def test_values_are_kept_for_good():
    # A resumed run must draw what the interrupted one would have drawn.
    assert draws.key(0, 1, 2) == KEY
    np.testing.assert_array_equal(draws.uniform(7, torch.arange(3)).numpy(), UNIFORM)


def test_generator():
    a, b = draws.generator(draws.key(1)), draws.generator(draws.key(1))
    np.testing.assert_array_equal(a.random(5), b.random(5))
    assert draws.generator(draws.key(2)).random() != draws.generator(draws.key(1)).random()


def test_wrong_ids():
    with pytest.raises(TypeError, match="int64"):
        draws.uniform(1, torch.arange(3, dtype=torch.int32))
    with pytest.raises(TypeError, match="at least one"):
        draws.uniform(1)
