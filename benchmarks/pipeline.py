"""The real commands on a hundred thousand users: prepare beside plain pyarrow, two workers beside one, memory
beside the plan."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pyarrow.parquet as pq
from figures import Figure
from scaling import LOSSES, RATE, WAITING, measure, middle, ratios
from workers import train

from mmssl_dist.config import load_job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.write import write_table
from mmssl_dist.planning.memory import EMPTY_WORKER
from mmssl_dist.planning.resource_plan import Assumptions, plan_resources
from mmssl_dist.planning.sizes import sizes_of_partitions
from mmssl_dist.storage import open_location, require_manifest

COMMAND = [sys.executable, "-c", "from mmssl_dist.app import main; main()"]
JOB = """\
output: unused
data:
  path: raw
  modalities: {image: {file: features/image}, text: {file: features/text}}
partition: {parts: 8}
model: {dimension: 64}
training: {epochs: 3, steps_per_epoch: 60}
evaluation: {users: 2000}
"""


TIKTOK = Path(__file__).resolve().parents[1] / "jobs/tiktok.yaml"
PLAIN_EPOCH = 266.0
"""Seconds of an epoch of the released MMSSL on TikTok, image and audio, evaluation left out, on two CPU
threads."""
ROUNDS = 3
"""Of trainings by one worker and by two, in turns."""


def figures(folder: Path, tiktok: Path | None) -> Iterator[Figure]:
    """All of them; takes minutes.

    Args:
        tiktok: folder of MMSSL's release of TikTok; None leaves its figure out.
    """
    prepare(folder)
    yield _preparing(folder)
    partition(folder)
    yield from _scaling(folder)
    if tiktok is not None:
        yield _tiktok(folder, tiktok)
    yield from memory_figures(folder)


def prepare(folder: Path) -> None:
    """Make the data and the dataset of these figures in ``folder``; what is there already is kept."""
    (folder / "job.yaml").write_text(JOB)
    if not (folder / "raw").exists():
        _call(
            folder,
            "synthesize",
            "raw",
            "--users",
            "100000",
            "--items",
            "30000",
            "--interactions",
            "1900000",
            "--modality",
            "image=128",
            "--modality",
            "text=96",
        )
    _call(folder, "prepare", "job.yaml", "--set", "output=run")


def partition(folder: Path) -> None:
    """The partitions of the dataset, in the same way."""
    _call(folder, "partition", "job.yaml", "--set", "output=run")


def memory_figures(folder: Path) -> Iterator[Figure]:
    """Memory and traffic of one worker and of two beside the plan; ``folder`` has the partitions."""
    history, plans = {}, {}
    for workers in (1, 2):
        sets = ("--set", "output=run", "--set", f"scaling.workers={workers}")
        _call(folder, "train", "job.yaml", *sets, "--force")
        history[workers] = _history(folder)
        plans[workers] = _plan(folder, workers)
    yield from _workers(history, plans)


def _preparing(folder: Path) -> Figure:
    """``prepare`` of the data of jobs/million.yaml, beside a copy of the same files; the least of two times
    each."""
    for name, sizes, widths in (
        ("large", (1000000, 300000, 20000000), (512, 384)),
        ("none", (100, 100, 1000), (2, 2)),
    ):
        users, items, interactions = map(str, sizes)
        _call(
            folder,
            "synthesize",
            name,
            "--users",
            users,
            "--items",
            items,
            "--interactions",
            interactions,
            "--modality",
            f"image={widths[0]}",
            "--modality",
            f"text={widths[1]}",
        )
    seconds: dict[str, list[float]] = {"large": [], "none": [], "copied": [], "alike": []}
    for _ in range(2):
        for name in ("large", "none"):
            started = perf_counter()
            _call(
                folder,
                "prepare",
                "job.yaml",
                "--force",
                "--set",
                f"data.path={name}",
                "--set",
                "output=prepared",
            )
            seconds[name].append(perf_counter() - started)
        seconds["copied"].append(_copy(folder, "large", same_layout=False))
        seconds["alike"].append(_copy(folder, "large", same_layout=True))
    prepared, nothing, copied, same_layout = (min(times) for times in seconds.values())
    beside = (
        f"{prepared:.1f} and {copied:.1f} s; 20 million interactions, features 512 and 384 wide; "
        f"{nothing:.1f} s "
        f"for a thousand and 2 wide, which is starting Python and Ray; copied in its encodings "
        f"{same_layout:.1f} s"
    )
    return Figure(
        name="prepare / one process reading and writing the same Parquet with pyarrow",
        value=prepared / copied,
        better="lower",
        bar=3,
        aim=1.5,
        baseline=beside,
    )


def _scaling(folder: Path) -> Iterator[Figure]:
    """Two workers beside one, each with a core to itself."""
    measured = measure(folder, ROUNDS)
    one, two = (measured["all losses", workers] for workers in (1, 2))
    gains = {losses: median(ratios(measured, losses)) for losses in LOSSES}
    yield Figure(
        name="training pairs/s, W = 2 / W = 1, one thread each",
        value=gains["all losses"],
        better="higher",
        bar=1.65,
        aim=1.8,
        baseline=f"median of {ROUNDS} rounds; {middle(two, RATE):,.0f} and {middle(one, RATE):,.0f} pairs/s, "
        "all losses, METIS parts, a core for each worker, 1,024 pairs a step and worker; by the default "
        f"losses {gains['default losses']:.2f}, by BPR alone {gains['BPR']:.2f}",
    )
    yield Figure(
        name="share of step time spent waiting, W = 2",
        value=middle(two, WAITING),
        better="lower",
        bar=0.12,
        aim=0.08,
        baseline=f"{middle(one, WAITING):.3f} at W = 1, whose sampling shares its core too",
    )


def _tiktok(folder: Path, data: Path) -> Figure:
    sets = [f"output={folder / 'tiktok'}", f"data.path={data.resolve()}"]
    for stage in ("prepare", "partition"):
        _call(folder, stage, str(TIKTOK), *(word for times in sets for word in ("--set", times)))
    epoch = train(TIKTOK, [*sets, "training.epochs=4", "model.dimension=64"], 2)["train_seconds"]
    return Figure(
        name="seconds per epoch on TikTok, W = 2: the released MMSSL's 266 / ours",
        value=PLAIN_EPOCH / epoch,
        better="higher",
        bar=100,
        aim=150,
        baseline=f"{epoch:.2f} s, with the job's losses, same number of pairs; the 266 s were measured "
        "apart, on two threads",
    )


def _workers(history: Mapping[int, Mapping[str, float]], plans: Mapping[int, Any]) -> Iterator[Figure]:
    two = history[2]
    above = {w: result["memory/resident"] - EMPTY_WORKER for w, result in history.items()}
    yield Figure(
        name="peak resident memory per worker above an empty one, W = 2 / W = 1",
        value=above[2] / above[1],
        better="lower",
        bar=0.6,
        aim=0.5,
        baseline=f"{above[2] / 1e6:.0f} and {above[1] / 1e6:.0f} MB",
    )
    for workers, plan in plans.items():
        peak = history[workers]["memory/resident"]
        yield Figure(
            name=f"peak resident memory per worker / the plan's, W = {workers}",
            value=peak / plan.memory.total,
            better="lower",
            bar=1.2,
            aim=None,
            baseline=f"{peak / 1e6:.0f} and {plan.memory.total / 1e6:.0f} MB; not below 0.8",
        )
    yield Figure(
        name="bytes sent in a step / the plan's, W = 2",
        value=two["exchange/bytes"] / (2 * plans[2].sent),
        better="lower",
        bar=1.2,
        aim=None,
        baseline=f"{two['exchange/bytes'] / 1e6:.1f} and {2 * plans[2].sent / 1e6:.1f} MB",
    )


def _call(folder: Path, *words: str) -> None:
    command = [*COMMAND, *words]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S603


def _copy(folder: Path, data: str, *, same_layout: bool) -> float:
    """Seconds for every file of a data set, as pyarrow writes it by default or encoded as prepare does it."""
    location = open_location(str(folder / "copy"), Storage())
    started = perf_counter()
    for path in sorted((folder / data).rglob("*.parquet")):
        if path.is_file():
            table = pq.read_table(path, partitioning=None)
            if same_layout:
                write_table(location, "copy.parquet", table)
            else:
                pq.write_table(table, folder / "copy.parquet")
    return perf_counter() - started


def _history(folder: Path) -> dict[str, float]:
    """Medians over the epochs after the first."""
    location = open_location(str(folder / "run"), load_job(folder / "job.yaml").storage) / "training"
    epochs = require_manifest(location, "training", "train").facts["history"][1:]
    return {name: median(epoch[name] for epoch in epochs) for name in epochs[0]}


def _plan(folder: Path, workers: int) -> Any:
    job = load_job(folder / "job.yaml", [f"scaling.workers={workers}"])
    location = open_location(str(folder / "run"), job.storage) / "partitions"
    return plan_resources(
        job, sizes_of_partitions(require_manifest(location, "partitions", "partition")), Assumptions()
    )
