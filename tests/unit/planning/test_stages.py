"""The plan of every stage: for each size of the design a worker of 64 GB is enough, or the setting that fixes
it is named."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mmssl_dist.config import Job
from mmssl_dist.planning.resource_plan import Assumptions, ResourcePlan, Speed, plan_resources
from mmssl_dist.planning.sizes import Sizes, supposed_sizes
from mmssl_dist.report.plan_lines import plan_lines
from tests.jobs import make_job

SIZES = {
    "A": (10**7, 2 * 10**6, 5 * 10**8, 8),
    "B": (10**8, 10**7, 5 * 10**9, 64),
    "C": (10**9, 10**8, 10**11, 1024),
}
WIDTHS = {"image": 512, "text": 384}
LIMIT = 64e9
SETTINGS = re.compile(r"\b(data|partition|model|training|evaluation|export|scaling)\.[a-z_]+")


def sizes_of(name: str) -> Sizes:
    users, items, interactions, _ = SIZES[name]
    return supposed_sizes(users, items, interactions, WIDTHS, held_out=0.1)


def job_of(name: str, *sets: str) -> Job:
    workers = SIZES[name][3]
    modalities = {modality: {"file": modality} for modality in WIDTHS}
    settings = (
        f"scaling.workers={workers}",
        "scaling.cpus_per_worker=4",
        f"partition.parts={4 * workers}",
        "partition.method=streaming",
        "model.dimension=64",
        "training.batch_size=65536",
        "training.fanout=[10, 10]",
        "training.rows.second_moment=row",
    )
    return make_job(*settings, *sets, data={"path": "unused", "modalities": modalities})


def planned(name: str, *sets: str, price: float | None = None) -> ResourcePlan:
    return plan_resources(job_of(name, *sets), sizes_of(name), Assumptions(LIMIT, price=price))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("lists", ["exact", "index", "none"])
def test_64_gb_are_enough_or_a_setting_is_named(name, lists):
    plan = planned(name, f"export.recommendations={lists}")
    assert [stage.stage for stage in plan.stages][:3] == ["prepare", "partition", "train"]
    assert ("its lists" in {stage.stage for stage in plan.stages}) == (lists == "index")
    assert all(stage.seconds > 0 and stage.memory > 0 for stage in plan.stages)
    for line in plan.breaks:
        assert SETTINGS.search(line), line
    too_large = {stage.stage for stage in plan.stages if stage.memory > LIMIT}
    assert too_large <= {"prepare", "train", "its validations", "evaluate", "export"}
    for stage in too_large & {"prepare", "train"}:
        assert any(line.startswith(f"{stage}: ") for line in plan.breaks)


@pytest.mark.parametrize("name", SIZES)
def test_the_settings_named_are_enough(name):
    """What the plan says is done, until it names nothing that is about memory."""
    sets: list[str] = ["data.buckets=4", "export.recommendations=index", "evaluation.users=100000"]
    for _ in range(4):
        plan = planned(name, *sets)
        text = "\n".join(plan.breaks)
        advised = re.findall(r"set (data\.buckets|export\.index\.cells) to (\d+)", text)
        advised += re.findall(r"(data\.buckets) \d+; set it to (\d+)", text)
        if not advised:
            break
        sets += [f"{setting}={value}" for setting, value in advised]
    assert not [line for line in plan.breaks if "GB" in line], plan.breaks
    assert max(stage.memory for stage in plan.stages) <= LIMIT


def test_epochs_are_bound_by_traffic_without_a_calibration():
    plan = planned("A")
    train = next(stage for stage in plan.stages if stage.stage == "train")
    job = job_of("A")
    steps = -(-plan.sizes.interactions // job.training.batch_size)
    assert train.basis == "traffic alone"
    assert train.seconds == pytest.approx(job.training.epochs * steps * plan.sent / 1e9)
    timed = plan_resources(job, sizes_of("A"), Assumptions(LIMIT), Speed(1.0, 1e-6, "cpu"))
    assert next(stage for stage in timed.stages if stage.stage == "train").seconds > train.seconds


def test_the_cost_is_that_of_every_stage():
    plan = planned("A", price=2.0)
    machines = {stage.stage: -(-stage.workers * stage.cores // 4) for stage in plan.stages}
    expected = sum(2.0 * machines[stage.stage] * stage.seconds / 3600 for stage in plan.stages)
    assert plan.cost == pytest.approx(expected)
    lines = plan_lines(plan, Assumptions(LIMIT, price=2.0), None)
    assert any(f"cost {plan.cost:,.2f}" in line for line in lines)


def test_a_gpu_that_is_too_small_is_named_with_one_that_is_not():
    sets = ("scaling.gpus_per_worker=1", "scaling.workers=1", "partition.parts=8")
    (line,) = [b for b in planned("A", *sets, "scaling.accelerator=T4").breaks if "GPU memory" in b]
    advice = "Raise scaling.workers, lower training.batch_size, or set scaling.accelerator to "
    assert f"T4 has 16. {advice}" in line
    assert not [b for b in planned("A", *sets, "scaling.accelerator=B200").breaks if "GPU memory" in b]
    (unknown,) = [b for b in planned("A", *sets, "scaling.accelerator=TPU").breaks if "TPU" in b]
    assert unknown.startswith("scaling.accelerator: ")


def test_narrow_features_and_rows_of_16_bits_take_less():
    whole, narrow, half = (
        planned("A", *sets)
        for sets in ((), ("partition.feature_dimensions=64",), ("partition.row_type=bfloat16",))
    )
    columns, kept = (sum(width + 1 for width in widths) for widths in (WIDTHS.values(), (64, 64)))
    features = [plan.memory.host["features"] for plan in (whole, narrow, half)]
    assert features[1] == pytest.approx(features[0] * kept / columns, abs=8)
    assert features[2] == pytest.approx(features[0] / 2, abs=8)
    sizes = whole.sizes
    saved = whole.storage["partitions"] - half.storage["partitions"]
    assert saved == sizes.num_nodes * columns * 2
    saved = whole.storage["partitions"] - narrow.storage["partitions"]
    assert saved == (sizes.num_nodes + sizes.num_items) * (columns - kept) * 4
    assert narrow.storage["dataset"] == whole.storage["dataset"]
    assert narrow.partition.seconds["propagation"] < whole.partition.seconds["propagation"] / 5
    assert set(narrow.partition.seconds) - set(whole.partition.seconds) == {"directions"}
    with_columns = ("model.feature_columns=8", "losses.adversarial.weight=0")
    models = [planned("A", *with_columns, *sets) for sets in ((), ("partition.row_type=bfloat16",))]
    assert models[0].memory.host["features"] == models[1].memory.host["features"]


@pytest.mark.parametrize("lists", ["exact", "index"])
def test_lists_of_named_users_alone_take_less(lists):
    job = job_of("B", f"export.recommendations={lists}")
    named = replace(sizes_of("B"), named=1000)
    plans = [plan_resources(job, sizes, Assumptions(LIMIT)) for sizes in (sizes_of("B"), named)]
    stage = {"exact": "export", "index": "its lists"}[lists]
    seconds = [next(s.seconds for s in plan.stages if s.stage == stage) for plan in plans]
    assert seconds[1] < seconds[0] / 2
    saved = (named.num_users - 1000) * job.export.k * 12
    assert plans[0].storage["export"] - plans[1].storage["export"] == saved


@pytest.mark.parametrize(("made", "stage"), [("exact", "export"), ("index", "its lists")])
def test_longer_lists_take_longer(made, stage):
    seconds = {}
    for k in (50, 1000):
        plan = planned("A", f"export.recommendations={made}", f"export.k={k}")
        seconds[k] = next(one.seconds for one in plan.stages if one.stage == stage)
    assert seconds[1000] > seconds[50]


def test_evaluate_ranks_for_the_users_of_both_splits():
    once = ("evaluation.contributions=false", "evaluation.length_exponent=1", "training.epochs=1")

    def seconds(users: int) -> dict[str, float]:
        plan = planned("A", *once, f"evaluation.users={users}")
        return {stage.stage: stage.seconds for stage in plan.stages}

    fewer, more = seconds(10_000), seconds(30_000)
    of_users = more["its validations"] - fewer["its validations"]
    assert more["evaluate"] - fewer["evaluate"] == pytest.approx(2 * of_users)
