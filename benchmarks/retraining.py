"""Days of growing data, each trained from the beginning and from the day before in a quarter of the steps.

    mmssl-dist synthesize RAW --users 3000 --items 2000 --interactions 60000 --seed 5
    python benchmarks/retraining.py jobs/demo.yaml RAW OUT [--days 5] [--growth 0.05] [--seeds 1 2 3]
        [--share 0.25] [--set A.B=C ...] [--results docs/results/retraining.json]

The last day has all interactions, each day before a share less. Users and items grow alike: those that are
not there on day 0 arrive one after the other; a user's interactions are moved behind its arrival, and those
with an item before the item's are left out. The split is temporal, so what a day holds out has trained no
day before. Day 0 is trained from the beginning, and each day both from the beginning and from the day before;
the latter for ``--share`` of the epochs that the former took to its best one, rounded, at least one. The test
values are of the checkpoints that validation chose. What is done already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import typer
from tables import table

from mmssl_dist import __version__
from mmssl_dist.app.reporting import reporting
from mmssl_dist.config import Job, load_job
from mmssl_dist.launch.lazy_cluster import LazyCluster, lazy_cluster
from mmssl_dist.launch.preflight import resolved
from mmssl_dist.pipeline.stages import run_stage

STAGES = ("prepare", "partition", "train", "evaluate")
COLUMNS = (
    "day",
    "interactions",
    "new users",
    "new items",
    "test, from the beginning",
    "test, from the day before",
    "difference",
    "standard error",
    "validation, from the beginning",
    "validation, before the first step",
    "validation, from the day before",
    "steps, both",
    "training seconds, both",
)


@dataclass(frozen=True)
class Trained:
    """What one run published: facts of its training, metrics, and steps of an epoch."""

    training: dict[str, Any]
    metrics: dict[str, Any]
    steps: int


class Pair(NamedTuple):
    """The trainings of a day from the beginning and from the day before."""

    fresh: Trained
    warm: Trained


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--growth", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--share", type=float, default=0.25, help="of the epochs of a fresh training")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with reporting(debug=False):
        rows = compare_days(options)
        results = {
            "provenance": f"mmssl-dist {__version__}, {options.job}, {' '.join(options.sets)}",
            "command": "benchmarks/retraining.py JOB RAW OUT --results docs/results/retraining.json",
            "columns": list(COLUMNS),
            "rows": rows,
        }
        if options.results:
            options.results.write_text(json.dumps(results, indent=1) + "\n")
        typer.echo("\n".join(table(results)))


def compare_days(options: argparse.Namespace) -> list[list[str]]:
    """A row of the table for each day after day 0, and one for all."""
    days: dict[int, list[Pair]] = {day: [] for day in range(1, options.days + 1)}
    counts = [write_day(options, day) for day in range(options.days + 1)]
    with lazy_cluster(job_of(options, day=0, seed=0, name="fresh", before=None)) as cluster:
        for seed in options.seeds:
            before = options.out / f"day-0/fresh-{seed}"
            train(job_of(options, day=0, seed=seed, name="fresh", before=None), cluster)
            for day, pairs in days.items():
                fresh = train(job_of(options, day=day, seed=seed, name="fresh", before=None), cluster)
                epochs = max(1, round(options.share * fresh.training["best_epoch"]))
                job = job_of(options, day=day, seed=seed, name="warm", before=before, epochs=epochs)
                share_partitions(options.out / f"day-{day}/fresh-{seed}", Path(job.output))
                pairs.append(Pair(fresh, train(job, cluster)))
                before = options.out / f"day-{day}/warm-{seed}"
    every_pair = [pair for pairs in days.values() for pair in pairs]
    return [
        *(row(str(day), f"{counts[day]:,}", pairs) for day, pairs in days.items()),
        row("all", "", every_pair),
    ]


def write_day(options: argparse.Namespace, day: int) -> int:
    """The raw files of ``day``: interactions up to then, and features of the items in them. The number of
    these interactions."""
    target = options.out / f"day-{day}/raw"
    if not (target / "done").exists():
        interactions = arriving(options, read(options.raw / "interactions.parquet"))
        count = round(len(interactions) / (1 + options.growth) ** (options.days - day))
        interactions = interactions.slice(0, count)
        items = pc.unique(interactions["item_id"])
        for source in sorted((options.raw / "features").iterdir()):
            features = read(source)
            (target / "features" / source.name).mkdir(parents=True, exist_ok=True)
            known = features.filter(pc.is_in(features["item_id"], value_set=items))
            pq.write_table(known, target / "features" / source.name / "part-0.parquet")
        pq.write_table(interactions, target / "interactions.parquet")
        (target / "done").touch()
    return int(pq.read_metadata(target / "interactions.parquet").num_rows)


def arriving(options: argparse.Namespace, interactions: pa.Table) -> pa.Table:
    """The interactions in the order of new times, in [0, 1): users and items arrive one after the other."""
    first = (1 + options.growth) ** -options.days  # the share of nodes, and of the time, of day 0
    arrival = {}
    for number, side in enumerate(("user_id", "item_id")):
        codes = interactions[side].combine_chunks().dictionary_encode()
        place = np.random.default_rng(number).permutation(len(codes.dictionary)) / len(codes.dictionary)
        arrival[side] = np.where(place < first, 0.0, place)[codes.indices.to_numpy()]
    order = np.argsort(interactions["time"].to_numpy(), kind="stable")
    time = np.empty(len(order))
    time[order] = np.arange(len(order)) / len(order)
    time = arrival["user_id"] + (1 - arrival["user_id"]) * time
    microseconds = pa.array((time * 1e12).astype(np.int64), pa.timestamp("us"))
    position = interactions.column_names.index("time")
    interactions = interactions.set_column(position, "time", microseconds)
    return interactions.filter(pa.array(time >= arrival["item_id"])).sort_by("time")


def read(folder: Path) -> pa.Table:
    """A table of Parquet files."""
    return pyarrow.dataset.dataset(folder, format="parquet").to_table()


def job_of(
    options: argparse.Namespace,
    *,
    day: int,
    seed: int,
    name: str,
    before: Path | None,
    epochs: int | None = None,
) -> Job:
    """The job of a day: trained from the beginning, or for ``epochs`` from the output ``before``."""
    folder = options.out / f"day-{day}"
    sets = [
        f"data.path={folder / 'raw'}",
        f"output={folder / name}-{seed}",
        f"seed={seed}",
        "data.columns.time=time",
        "data.split={method: temporal, validation: 0.05, test: 0.05}",
        "evaluation.every_epochs=1",
        *options.sets,
    ]
    if before is not None:
        sets += [f"training.start_from={before}", f"training.epochs={epochs}"]
    return resolved(load_job(options.job, sets))


def share_partitions(source: Path, target: Path) -> None:
    """Both trainings of a day have the same dataset and partitions; made once."""
    for artifact in ("dataset", "partitions"):
        if not (target / artifact).exists():
            shutil.copytree(source / artifact, target / artifact)


def train(job: Job, cluster: LazyCluster) -> Trained:
    """All stages up to the metrics."""
    manifests = {stage: run_stage(stage, job, cluster) for stage in STAGES}
    pairs = manifests["partition"].facts["interactions"]["train"]
    steps = -(-pairs // job.training.batch_size)
    return Trained(dict(manifests["train"].facts), dict(manifests["evaluate"].facts), steps)


def row(day: str, interactions: str, pairs: list[Pair]) -> list[str]:
    """One line of the table: means over ``pairs``."""
    metric = pairs[0].fresh.training["metric"]
    starts = [pair.warm.training["start"]["figures"] for pair in pairs]
    test = [(fresh.metrics["test"][metric], warm.metrics["test"][metric]) for fresh, warm in pairs]
    differences = [warm - fresh for fresh, warm in test]
    steps = [
        (pair.fresh.training["best_epoch"] * pair.fresh.steps, pair.warm.training["epochs"] * pair.warm.steps)
        for pair in pairs
    ]
    seconds = [(train_seconds(fresh.training), train_seconds(warm.training)) for fresh, warm in pairs]
    return [
        day,
        interactions,
        f"{mean(start['users/new'] for start in starts):.0f}",
        f"{mean(start['items/new'] for start in starts):.0f}",
        *(f"{mean(side):.4f}" for side in zip(*test, strict=True)),
        f"{mean(differences):+.4f}",
        f"{stdev(differences) / len(differences) ** 0.5:.4f}" if len(differences) > 1 else "",
        f"{mean(pair.fresh.training['best'] for pair in pairs):.4f}",
        f"{mean(start[metric] for start in starts):.4f}",
        f"{mean(pair.warm.training['best'] for pair in pairs):.4f}",
        " / ".join(f"{mean(side):,.0f}" for side in zip(*steps, strict=True)),
        " / ".join(f"{mean(side):.0f}" for side in zip(*seconds, strict=True)),
    ]


def train_seconds(training: dict[str, Any]) -> float:
    """What the steps of a training took, up to its end."""
    epochs = [0.0, *(entry["epoch"] for entry in training["history"])]
    return sum(
        entry["train_seconds"] * (after - before)
        for entry, before, after in zip(training["history"], epochs[:-1], epochs[1:], strict=True)
    )


if __name__ == "__main__":
    main()
    sys.exit(0)
