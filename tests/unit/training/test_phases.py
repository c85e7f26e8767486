"""What a step's parts take: nested phases count once, and figures hold over all workers."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.training.phases import Phases, epoch_figures
from tests.clock import Clock


def test_a_phase_within_a_phase_counts_once():
    clock = Clock()
    phases = Phases(clock)
    for _ in range(2):
        with phases("outer"):
            clock.now += 2
            with phases("inner"):
                clock.now += 5
            clock.now += 3
        clock.now += 7  # in no phase
        phases.end_step()
    with phases("outer"):
        clock.now += 1
    phases.forget()
    taken = phases.take()
    assert {name: seconds.tolist() for name, seconds in taken.items()} == {"inner": [5, 5], "outer": [5, 5]}
    assert phases.take() == {}


def test_a_phase_ends_with_an_error():
    phases = Phases()
    with pytest.raises(ValueError, match="wrong"), phases("outer"), phases("inner"):
        raise ValueError("wrong")
    with phases("after"):
        pass
    phases.end_step()
    assert sorted(phases.take()) == ["after", "inner", "outer"]


def test_figures_of_one_worker():
    step = {"wait": np.array([0.1, 0.1, 0.2]), "generator": np.array([0.3, 0.4, 0.9])}
    exchange, sampler = (Exchange(None, np.array([0, 10]), 0) for _ in range(2))
    exchange.traffic.seconds, exchange.traffic.bytes_sent, exchange.traffic.rows = 0.6, 300, 10
    sampler.traffic.bytes_sent, sampler.traffic.rows, sampler.traffic.local_rows = 600, 10, 5
    result = epoch_figures(step, {"sample": np.array([0.2] * 3)}, exchange, sampler, pairs=100, edges=1000)
    assert result["seconds/step/p50"] == pytest.approx(0.5)
    assert result["seconds/generator/p50"] == pytest.approx(0.4)
    assert result["seconds/generator/p95"] == pytest.approx(0.85)
    assert result["seconds/sample/p50"] == pytest.approx(0.2)
    assert result["share/waiting"] == pytest.approx((0.4 + 0.6) / 2.0)
    assert result["rate/pairs"] == pytest.approx(50)
    assert result["rate/edges"] == pytest.approx(500)
    assert result["exchange/bytes"] == pytest.approx(300)
    assert result["exchange/local"] == pytest.approx(0.25)
    assert result["memory/resident"] > 1e7
    assert exchange.traffic.bytes_sent == sampler.traffic.rows == 0
