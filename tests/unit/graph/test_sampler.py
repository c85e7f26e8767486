from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mmssl_dist
from mmssl_dist.errors import InputError
from mmssl_dist.graph.sampler import PartitionSampler

NODES = 500


def ragged(degrees: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of these lengths with distinct ascending neighbours."""
    generator = np.random.default_rng(seed)
    rows = [np.sort(generator.choice(NODES, degree, replace=False)) for degree in degrees]
    indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    return indptr, np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)


def check(indptr: np.ndarray, rows: Tensor, fanout: int | None, counts: Tensor, edges: Tensor) -> None:
    """Each row has min(degree, fanout) different edges, all of them its own."""
    degrees = np.diff(indptr)[rows.numpy()]
    assert counts.dtype == edges.dtype == torch.int64
    assert counts.tolist() == (degrees if fanout is None else np.minimum(degrees, fanout)).tolist()
    owner = np.repeat(rows.numpy(), counts.numpy())
    assert len(owner) == len(edges)
    assert (indptr[owner] <= edges.numpy()).all()
    assert (edges.numpy() < indptr[owner + 1]).all()
    assert len(np.unique(edges)) == len(edges)


@given(
    degrees=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    fanout=st.one_of(st.none(), st.integers(1, 50)),
    seed=st.integers(-(2**70), 2**70),
    data=st.data(),
)
def test_sampled_edges_are_the_rows_own(
    degrees: list[int], fanout: int | None, seed: int, data: st.DataObject
) -> None:
    indptr, neighbours = ragged(degrees)
    rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(degrees) - 1)))), dtype=torch.int64)
    sampler = PartitionSampler(indptr, neighbours, NODES)
    sample = sampler.sample(rows, fanout, seed)
    check(indptr=indptr, rows=rows, fanout=fanout, counts=sample.counts, edges=sample.edges)
    again = sampler.sample(rows, fanout, seed)
    assert torch.equal(sample.edges, again.edges)


def test_by_hand() -> None:
    sampler = PartitionSampler(np.array([0, 2, 2, 5]), np.array([7, 9, 1, 2, 3]), 10)
    for fanout in (None, 3, 8):
        sample = sampler.sample(torch.tensor([0, 1, 2]), fanout, 0)
        assert (sample.counts.tolist(), sample.edges.tolist()) == ([2, 0, 3], [0, 1, 2, 3, 4])
    sample = sampler.sample(torch.tensor([2]), None, 0)
    assert (sample.counts.tolist(), sample.edges.tolist()) == ([3], [2, 3, 4])


def test_no_rows_and_an_empty_partition() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    for degrees in ([], [3, 4]):
        sampler = PartitionSampler(*ragged(degrees), NODES)
        for fanout in (1, None):
            sample = sampler.sample(empty, fanout, 0)
            assert sample.counts.tolist() == sample.edges.tolist() == []


def test_each_neighbour_is_kept_with_probability_fanout_over_degree() -> None:
    """Over 4,000 draws each frequency is within 4.5 standard errors, and their spread is that of fair
    draws."""
    degrees, fanout, draws = [3, 5, 11, 40, 200], 4, 4000
    indptr, neighbours = ragged(degrees)
    sampler, rows = PartitionSampler(indptr, neighbours, NODES), torch.arange(len(degrees))
    kept = torch.zeros(len(neighbours))
    for seed in range(draws):
        kept[sampler.sample(rows, fanout, seed).edges] += 1
    chance = np.repeat(np.minimum(1.0, fanout / np.array(degrees)), degrees)
    random = chance < 1
    assert (kept.numpy()[~random] == draws).all()
    z = (kept.numpy() / draws - chance)[random] / np.sqrt(chance * (1 - chance) / draws)[random]
    assert np.abs(z).max() < 4.5
    assert 0.85 < z.std() < 1.15


def test_an_unbiased_sum() -> None:
    """The mean over draws of degree / fanout times the sampled sum is the full sum, within its standard
    error."""
    degrees, fanout, draws = [30, 90], 5, 3000
    indptr, neighbours = ragged(degrees)
    values = np.random.default_rng(1).normal(size=len(neighbours))
    sampler = PartitionSampler(indptr, neighbours, NODES)
    sums = np.empty((draws, 2))
    for seed in range(draws):
        sampled = sampler.sample(torch.arange(2), fanout, seed)
        sums[seed] = values[sampled.edges.numpy()].reshape(2, fanout).sum(1) * np.array(degrees) / fanout
    exact = [values[: indptr[1]].sum(), values[indptr[1] :].sum()]
    error = sums.std(0, ddof=1) / np.sqrt(draws)
    assert (np.abs(sums.mean(0) - exact) < 4 * error).all()


def test_near_seeds_draw_apart() -> None:
    """Draws of consecutive seeds agree no more often than chance: 10 of 1,000 neighbours share 0.1 of their
    edges."""
    indptr = np.array([0, 1000])
    sampler = PartitionSampler(indptr, np.arange(1000) % NODES, NODES)
    drawn = [set(sampler.sample(torch.tensor([0]), 10, seed).edges.tolist()) for seed in range(1000)]
    shared = np.mean([len(a & b) for a, b in itertools.pairwise(drawn)])
    assert shared == pytest.approx(0.1, abs=0.04)
    assert len({frozenset(d) for d in drawn}) == len(drawn)


def fixed_draw() -> str:
    indptr, neighbours = ragged([20] * 100)
    edges = PartitionSampler(indptr, neighbours, NODES).sample(torch.arange(0, 100, 3), 5, 2**40 + 1).edges
    return hashlib.sha256(edges.numpy().tobytes()).hexdigest()


@pytest.mark.processes
def test_same_draws_in_any_thread_and_process() -> None:
    expected, result = fixed_draw(), []
    threads = [threading.Thread(target=lambda: result.append(fixed_draw())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root = Path(mmssl_dist.__file__).parents[1]
    code = "from tests.unit.graph.test_sampler import fixed_draw; print(fixed_draw())"
    done = subprocess.run(  # with more than one thread to share rows out to
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        env={"OMP_NUM_THREADS": "2"},
    )
    assert [*result, done.stdout.strip()] == [expected] * 5


def test_memory_maps_are_read_in_place(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    indptr, neighbours = ragged([9, 30, 12])
    np.save(tmp_path / "neighbours.npy", neighbours)
    mapped = np.load(tmp_path / "neighbours.npy", mmap_mode="r")
    sample = PartitionSampler(indptr, mapped, NODES).sample(torch.arange(3), 6, 1)
    assert torch.equal(
        sample.edges, PartitionSampler(indptr, neighbours, NODES).sample(torch.arange(3), 6, 1).edges
    )
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_cost_follows_the_rows_and_not_the_partition() -> None:
    """1,000 rows of a partition of 2 million take about as long as 1,000 rows of 20,000; anything linear
    would take 100 times as long."""

    def seconds(n: int) -> float:
        sampler = PartitionSampler(torch.arange(n + 1) * 4, torch.arange(4 * n) % NODES, NODES)
        rows, times = torch.arange(1000) * (n // 1000), []
        for seed in range(7):
            started = time.perf_counter()
            sampler.sample(rows, 3, seed)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds(2_000_000) < 10 * seconds(20_000)


def test_fanout_below_one() -> None:
    with pytest.raises(InputError, match="fanout: found 0"):
        PartitionSampler(*ragged([3]), NODES).sample(torch.tensor([0]), 0, 0)
