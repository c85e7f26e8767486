"""The plan: batches against the real sampler, needs that fall with workers, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.planning import calibrate as calibration
from mmssl_dist.planning.calibrate import calibrate, synthetic_graph
from mmssl_dist.planning.expected_batch import expected_batch
from mmssl_dist.planning.memory import worker_memory
from mmssl_dist.planning.partition_needs import partition_needs
from mmssl_dist.planning.resource_plan import Assumptions, Speed, plan_resources, require_room
from mmssl_dist.planning.sizes import Sizes, supposed_sizes
from mmssl_dist.planning.traffic import sent_bytes
from mmssl_dist.sampling.batch import BatchSampler
from mmssl_dist.sharding.partitions import LocalGraph
from tests.jobs import make_job
from tests.unit.planning.graph_sizes import sizes_of_graph

RESULTS = Path(__file__).parents[3] / "docs" / "results"
HUNDRED = {"image": 128, "text": 64}
MILLION = {"image": 512, "text": 384}
WIDTHS = {"image": 6, "text": 4}
USERS, ITEMS, INTERACTIONS = 8000, 2500, 150_000


def planned_job(*sets: str) -> Job:
    modalities = {name: {"file": name} for name in WIDTHS}
    return make_job(*sets, data={"path": "unused", "modalities": modalities}, training={"batch_size": 512})


@pytest.fixture(scope="module")
def graph() -> LocalGraph:
    return synthetic_graph(users=USERS, items=ITEMS, interactions=INTERACTIONS, widths=WIDTHS, neighbours=10)


def sizes_of(graph: LocalGraph, cut: tuple[float, ...] = ()) -> Sizes:
    return sizes_of_graph(graph, USERS, WIDTHS, cut, validation=7, test=5)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("training.fanout=[3, 5]",),
        ("model.item_graph.weight=0", "losses.contrastive.weight=0"),
        ("training.fanout=all", "training.batch_size=32"),
        ("model.item_graph.fanout=2",),
        ("training.batch_size=4096",),
    ],
)
def test_a_batch_is_as_large_as_expected(graph, sets):
    job = planned_job(*sets)
    sampler = BatchSampler(graph, Exchange(None, np.array([0, graph.num_rows]), 0), job)
    batches = [sampler.batch(0, step) for step in range(3)]
    expected = expected_batch(job, sizes_of(graph), 1)

    def mean(of: list[int]) -> float:
        return sum(of) / len(of)

    assert expected.seeds == pytest.approx(mean([len(b.nodes) for b in batches]), rel=0.1)
    assert expected.users == pytest.approx(mean([len(b.batch_users) for b in batches]), rel=0.05)
    assert expected.candidates == pytest.approx(mean([len(b.candidates) for b in batches]), rel=0.1)
    assert expected.rows == pytest.approx(mean([len(b.id_route.requested) for b in batches]), rel=0.08)
    edges = [
        b.graph.num_edges - (len(b.graph.similar.gather.source) if b.graph.similar else 0) for b in batches
    ]
    assert expected.edges == pytest.approx(mean(edges), rel=0.1)


def test_supposed_degrees_come_to_the_numbers_given():
    sizes = supposed_sizes(10**6, 3 * 10**5, 2 * 10**7, WIDTHS, held_out=0.1)
    assert (sizes.num_users, sizes.num_items) == (10**6, 3 * 10**5)
    assert sizes.interactions == pytest.approx(1.8e7, rel=1e-6)
    assert sizes.items.edges == pytest.approx(1.8e7, rel=1e-6)
    assert sizes.held_out == 2 * 10**6
    dense = supposed_sizes(
        50, 10, 450, WIDTHS, held_out=0.0
    )  # almost every pair: nobody has more items than there are
    assert dense.items.degree.max() <= 50
    assert dense.items.edges == pytest.approx(450, rel=1e-3)


@pytest.mark.parametrize(
    ("numbers", "where"),
    [
        ((0, 1, 1), "--users"),
        ((1, 0, 1), "--items"),
        ((1, 1, 0), "--inter"),
        ((2, 2, 5), "--interactions: found 5; there are 4 pairs"),
    ],
)
def test_sizes_that_cannot_be(numbers, where):
    with pytest.raises(InputError, match=where):
        supposed_sizes(*numbers, modalities=WIDTHS, held_out=0.0)


def test_a_good_cut_keeps_rows_at_home(graph):
    job = planned_job("training.batch_size=32")
    bad, good = (sizes_of(graph, (0.0, cut)) for cut in (0.5, 0.1))
    kept = {cut: expected_batch(job, sizes, 2) for cut, sizes in ((0.5, bad), (0.1, good))}
    assert kept[0.5].away_rows == pytest.approx(0.5 * kept[0.5].rows, rel=0.1)
    assert kept[0.1].away_rows < 0.8 * kept[0.5].away_rows
    assert sent_bytes(job, good, kept[0.1], 2) < sent_bytes(job, bad, kept[0.5], 2)
    assert sent_bytes(job, bad, expected_batch(job, bad, 1), 1) == 0.0


def test_what_fits_is_the_fewest_workers(graph):
    job, sizes = planned_job(), supposed_sizes(10**7, 10**6, 10**9, WIDTHS, held_out=0.0)

    def total(workers: int) -> int:
        return worker_memory(job, sizes, expected_batch(job, sizes, workers), workers).total

    assert total(1) > total(2) > total(8)
    limit = 20e9
    plan = plan_resources(job, sizes, Assumptions(memory=limit))
    assert plan.least_workers is not None
    assert total(plan.least_workers) <= limit < total(plan.least_workers - 1)
    assert plan.least_parts >= plan.least_workers
    assert any(line.startswith(f"train: {total(1) / 1e9:,.1f} GB") for line in plan.breaks)
    assert (
        plan_resources(job, sizes, Assumptions(memory=5e8)).least_workers is None
    )  # less than an empty worker


def test_the_first_thing_that_breaks_is_told_first():
    job = planned_job("partition.method=metis", "data.buckets=4")
    sizes = supposed_sizes(10**9, 10**8, 10**11, WIDTHS, held_out=0.0)
    buckets, first, second, *_ = plan_resources(job, sizes, Assumptions(memory=64e9)).breaks
    assert re.fullmatch(r"prepare: [\d,]+ interactions in data.buckets 4; set it to \d{4} or more", buckets)
    assert first.endswith("METIS runs on one of them. Set partition.method to streaming")
    assert second.startswith("train: ")


@pytest.mark.parametrize(
    ("file", "row", "workers", "sizes", "widths"),
    [
        ("partition_stage", "W = 1", 1, (1_000_000, 300_000, 16_997_299), MILLION),
        ("partition_stage", "W = 2", 2, (1_000_000, 300_000, 16_997_299), MILLION),
        ("partition_stage", "W = 3", 3, (1_000_000, 300_000, 16_997_299), MILLION),
        ("partition_stage", "W = 4", 4, (1_000_000, 300_000, 16_997_299), MILLION),
        ("hundred", "partition by two workers", 2, (5_000_000, 1_000_000, 84_994_972), HUNDRED),
        ("hundred", "partition by three workers", 3, (5_000_000, 1_000_000, 84_994_972), HUNDRED),
    ],
)
def test_partition_s_memory_is_near_what_was_measured(file, row, workers, sizes, widths):
    record = json.loads((RESULTS / f"{file}.json").read_text())
    largest = record["columns"].index("GB of the largest task or worker")
    (measured,) = [float(cells[largest]) for cells in record["rows"] if cells[0] == row]
    job = planned_job("partition.method=streaming", "partition.parts=8")
    users, items, interactions = sizes
    graph = supposed_sizes(users, items, interactions, widths, held_out=0.0)
    planned = partition_needs(job, graph, workers, 1e9).peak / 1e9
    assert 0.95 * measured <= planned <= 1.35 * measured


@pytest.mark.parametrize(
    ("users", "items", "interactions", "workers"),
    [(10**7, 2 * 10**6, 5 * 10**8, 1), (10**8, 10**7, 5 * 10**9, 12), (10**9, 10**8, 10**11, 250)],
)
def test_partition_fits_into_enough_workers_of_any_size(users, items, interactions, workers):
    job = planned_job("partition.method=streaming", "partition.parts=512", "training.batch_size=65536")
    sizes = supposed_sizes(users, items, interactions, {"image": 512, "text": 384}, held_out=0.0)
    plan = plan_resources(job, sizes, Assumptions(memory=64e9))
    assert plan.least_partition_workers is not None
    assert workers / 2 <= plan.least_partition_workers <= 2 * workers
    enough = partition_needs(job, sizes, plan.least_partition_workers, 1e9)
    assert enough.peak <= 64e9 < partition_needs(
        job, sizes, max(1, plan.least_partition_workers // 2), 1e9
    ).peak or (plan.least_partition_workers == 1)
    assert all(seconds < 86_400 for seconds in enough.seconds.values())
    assert not [line for line in plan.breaks if line.startswith("partition:")] == (plan.partition.peak > 64e9)


def test_time_and_cost_are_those_of_all_steps(graph):
    job = planned_job("training.epochs=3", "scaling.workers=2")
    sizes = sizes_of(graph, (0.0, 0.5))
    plan = plan_resources(job, sizes, Assumptions(bandwidth=1e6, price=2.0), Speed(0.5, 1e-5, "cpu"))
    assert plan.needs.time is not None
    assert plan.needs.time.step == pytest.approx(0.5 + 1e-5 * plan.needs.batch.rows + plan.sent / 1e6)
    assert plan.needs.time.steps == -(-sizes.interactions // 512)
    assert plan.needs.time.training == pytest.approx(3 * plan.needs.time.steps * plan.needs.time.step)
    assert plan.needs.cost == pytest.approx(2.0 * 2 * plan.needs.time.training / 3600)
    assert json.loads(json.dumps(plan.facts()))["memory"]["total"] == plan.memory.total


def test_a_job_that_does_not_fit_is_refused(graph):
    plan = plan_resources(planned_job(), sizes_of(graph), Assumptions())
    require_room(plan, plan.memory.total, "any")
    needs = re.escape(
        f"found 0.1 GB per worker; the plan for 1 worker(s) needs {plan.memory.total / 1e9:.1f} GB each"
    )
    with pytest.raises(InputError, match=f"^scaling.memory_gb: {needs}"):
        require_room(plan, 1e8, "scaling.memory_gb")
    with pytest.raises(InputError, match=r"scaling\.workers: 7 would fit"):
        require_room(replace(plan, least_workers=7), 1e8, "scaling.memory_gb")


@pytest.mark.processes
def test_calibration_times_real_steps(monkeypatch):
    monkeypatch.setattr(calibration, "_GRAPHS", ((400, 150, 4000), (3000, 900, 40_000)))
    speed = calibrate(planned_job("losses.candidates=32"), WIDTHS, 2)
    assert speed.device == "cpu"
    assert 0 < speed.seconds(1000) < 10
    assert speed.seconds(2000) >= speed.seconds(1000)
