"""Days of growing data, each trained from the beginning and from the day before.

    mmssl-dist synthesize RAW --users 3000 --items 2000 --interactions 60000 --seed 5
    python benchmarks/retraining.py jobs/demo.yaml RAW OUT [--days 5] [--growth 0.05] [--set A.B=C ...]
        [--results docs/results/retraining.json]

Interactions of RAW are taken by time: the last day has all of them, each day before a share less. A day knows
only the users and items of its interactions. The split is temporal, so what a day holds out has trained no
day before. Day 0 is trained from the beginning. Compared are the best values on validation, the values on
test of the checkpoints that validation chose, and the steps until the training with a start first reaches
the best validation value of the training from the beginning. What is done already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    "validation, from the beginning",
    "validation, before the first step",
    "validation, from the day before",
    "test, from the beginning",
    "test, from the day before",
    "steps from the beginning",
    "steps until the same validation",
    "share of the steps",
    "training seconds, both",
)


@dataclass(frozen=True)
class Trained:
    """What one run published: facts of its training, metrics, and steps of an epoch."""

    training: dict[str, Any]
    metrics: dict[str, Any]
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--growth", type=float, default=0.05)
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
    """A row of the table for each day after day 0."""
    rows, before = [], None
    first = job_of(options, 0, "fresh", None)
    with lazy_cluster(first) as cluster:
        for day in range(options.days + 1):
            write_day(options, day)
            fresh = train(job_of(options, day, "fresh", None), cluster)
            if before is None:
                before = options.out / "day-0/fresh"
                continue
            warm_job = job_of(options, day, "warm", before)
            share_partitions(options.out / f"day-{day}/fresh", Path(warm_job.output))
            warm = train(warm_job, cluster)
            before = options.out / f"day-{day}/warm"
            interactions = pq.read_metadata(options.out / f"day-{day}/raw/interactions.parquet").num_rows
            rows.append(row(day, interactions, fresh, warm))
    return rows


def write_day(options: argparse.Namespace, day: int) -> None:
    """The raw files of ``day``: interactions up to then, and features of the items in them."""
    target = options.out / f"day-{day}/raw"
    if (target / "done").exists():
        return
    interactions = read(options.raw / "interactions.parquet").sort_by("time")
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


def read(folder: Path) -> pa.Table:
    """A table of Parquet files."""
    return pyarrow.dataset.dataset(folder, format="parquet").to_table()


def job_of(options: argparse.Namespace, day: int, name: str, before: Path | None) -> Job:
    """The job of a day: trained from the beginning, or from the output ``before``."""
    folder = options.out / f"day-{day}"
    sets = [
        f"data.path={folder / 'raw'}",
        f"output={folder / name}",
        "data.columns.time=time",
        "data.split={method: temporal, validation: 0.05, test: 0.05}",
        "evaluation.every_epochs=1",
        *options.sets,
    ]
    if before is not None:
        sets.append(f"training.start_from={before}")
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
    return Trained(manifests["train"].facts, manifests["evaluate"].facts, steps)


def row(day: int, interactions: int, fresh: Trained, warm: Trained) -> list[str]:
    """One line of the table."""
    metric = fresh.training["metric"]
    start = warm.training["start"]["figures"]
    wanted, needed = fresh.training["best_epoch"] * fresh.steps, None
    values = [(0, start[metric]), *((int(e["epoch"]), e[metric]) for e in warm.training["history"])]
    reached = [epoch for epoch, value in values if value >= fresh.training["best"]]
    if reached:
        needed = reached[0] * warm.steps
    seconds = "/".join(f"{train_seconds(training.training):.0f}" for training in (fresh, warm))
    return [
        str(day),
        f"{interactions:,}",
        f"{start['users/new']:.0f}",
        f"{start['items/new']:.0f}",
        f"{fresh.training['best']:.4f}",
        f"{start[metric]:.4f}",
        f"{warm.training['best']:.4f}",
        f"{fresh.metrics['test'][metric]:.4f}",
        f"{warm.metrics['test'][metric]:.4f}",
        f"{wanted:,}",
        "not reached" if needed is None else f"{needed:,}",
        "" if needed is None else f"{needed / wanted:.2f}",
        seconds,
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
