"""Runs the experiments of a YAML file, those that are not there yet, and prints the tables that compare them.

    python benchmarks/accuracy.py benchmarks/accuracy.yaml OUT --set data.path=FOLDER [--only NAME ...]
    [--table]

Experiments are named; each is the file's job with other settings (`set`, after the file's own) or another job
(`job`), and has `seeds`. A run lives in OUT/NAME/seed-S and is the stages up to `evaluate`, all of them on
one Ray; what was cut off goes on and what is done is skipped. Printed are means over the runs, popularity's
as the first of them has it, and `mmssl-dist compare`'s tests of every experiment against the first one, user
by user; --table runs nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from mmssl_dist.app.reporting import reporting
from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.config import Job, load_job
from mmssl_dist.pipeline import cluster_on_demand, run_stage
from mmssl_dist.report.runs import Summary

STAGES = ("prepare", "partition", "train", "evaluate")
REUSED = ("dataset", "partitions")
"""Artifacts that most experiments of one seed share; the stages make them again where they differ."""
COMMAND = [sys.executable, "-c", "from mmssl_dist.app import main; main()"]


@dataclass(frozen=True)
class Experiment:
    """One row of the table; ``sets`` are overrides of ``job``."""

    name: str
    job: str
    sets: tuple[str, ...]
    seeds: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="override of every run")
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--table", action="store_true", help="only compare what is there")
    arguments = parser.parse_args()
    experiments = read(yaml.safe_load(arguments.experiments.read_text()))
    if not arguments.table:
        chosen = [each for each in experiments if not arguments.only or each.name in arguments.only]
        try:
            with reporting(debug=False):
                run([(each, seed) for each in chosen for seed in each.seeds], arguments.out, arguments.sets)
        except typer.Exit as end:
            sys.exit(end.exit_code)
    done = {each.name: finished(each, arguments.out) for each in experiments}
    done = {name: runs for name, runs in done.items() if runs}
    if not done:
        sys.exit(f"{arguments.out}: no finished run of {arguments.experiments}")
    sys.stdout.write("\n".join(table(done)) + "\n")
    compare(done)


def read(tree: dict[str, Any]) -> list[Experiment]:
    """The file's experiments, in its order."""
    wrong = [name for name in tree["experiments"] if set(name) & set("=/,")]
    if wrong:
        sys.exit(
            f"{', '.join(wrong)}: a name is a folder's and `compare`'s, so it has no =, / or comma in it"
        )
    return [
        Experiment(
            name,
            settings.get("job", tree["job"]),
            (*tree.get("set", ()), *settings.get("set", ())),
            tuple(settings.get("seeds", tree["seeds"])),
        )
        for name, settings in tree["experiments"].items()
    ]


def run(wanted: Sequence[tuple[Experiment, int]], out: Path, sets: Sequence[str]) -> None:
    """Make the runs that aren't there, an experiment and a seed each.

    Raises:
        MmsslError: of the first that fails.
    """
    jobs = [
        load_job(Path(each.job), [*each.sets, *sets, f"seed={seed}", f"output={_folder(out, each, seed)}"])
        for each, seed in wanted
    ]
    with cluster_on_demand(max(jobs, key=lambda job: job.scaling.fewest)) as cluster:
        for job in jobs:
            make(job, cluster)


def make(job: Job, cluster: Callable[[], Cluster]) -> None:
    """Bring one run up to date."""
    sys.stdout.write(f"{job.output}\n")
    sys.stdout.flush()
    _reuse(Path(job.output))
    for stage in STAGES:
        run_stage(stage, job, cluster)


def _folder(out: Path, experiment: Experiment, seed: int) -> Path:
    return out / experiment.name / f"seed-{seed}"


def _reuse(folder: Path) -> None:
    for stage in REUSED:
        there = [path.parent for path in folder.parents[1].glob(f"*/{folder.name}/{stage}/manifest.json")]
        if there and not (folder / stage).exists():
            shutil.copytree(there[0], folder / stage)


def finished(experiment: Experiment, out: Path) -> list[Path]:
    """The experiment's runs that are evaluated, in the order of its seeds."""
    runs = [_folder(out, experiment, seed) for seed in experiment.seeds]
    return [run for run in runs if (run / "evaluation" / "manifest.json").exists()]


def table(done: dict[str, list[Path]]) -> list[str]:
    """Means over each experiment's runs: a Markdown table, Recall@20 with every run's value and the standard
    error."""
    lines = [
        "| | runs | validation Recall@20 | test Recall@20 | standard error over runs | test NDCG@20 "
        "| test Recall@20, cold items | epochs to the best |",
        "|" + "---|" * 8,
    ]
    for name, runs in done.items():
        trained = [json.loads((run / "training" / "manifest.json").read_text())["facts"] for run in runs]
        epochs = [facts["best_epoch"] for facts in trained]
        lines.append(_line(name, [_metrics(run) for run in runs], _range(epochs)))
    first = next(iter(done.values()))[0]
    lines.append(_line("popularity", [_metrics(first)["baselines"]["popularity"]], ""))
    return lines


def compare(done: dict[str, list[Path]]) -> None:
    """Print every experiment beside the first, paired by user."""
    groups = [f"{name}={','.join(map(str, runs))}" for name, runs in done.items()]
    for metric in ("recall@20", "ndcg@20"):
        sys.stdout.write(f"\nAgainst {next(iter(done))}, {metric}:\n\n")
        sys.stdout.flush()
        subprocess.run([*COMMAND, "compare", *groups, "--metric", metric, "--popularity"], check=True)  # noqa: S603


def _metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return found


def _line(name: str, runs: list[dict[str, Any]], epochs: str) -> str:
    validation, test = (
        Summary(tuple(run[split]["recall@20"] for run in runs)) for split in ("validation", "test")
    )
    ndcg = Summary(tuple(run["test"]["ndcg@20"] for run in runs))
    cold = [run["cold"]["test"]["recall@20"] for run in runs if "test" in run.get("cold", {})]
    cells = [
        name,
        str(len(runs)),
        _values(validation),
        _values(test),
        "" if test.error is None else f"{test.error:.4f}",
        f"{ndcg.mean:.4f}",
        f"{sum(cold) / len(cold):.3f}" if cold else "",
        epochs,
    ]
    return f"| {' | '.join(cells)} |"


def _range(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _values(found: Summary) -> str:
    each = " ".join(f"{value:.4f}" for value in found.values)
    return f"{found.mean:.4f} ({each})" if len(found.values) > 1 else each


if __name__ == "__main__":
    main()
