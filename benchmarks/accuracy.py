"""Runs the experiments of a YAML file, those that are not there yet, and prints the tables that compare them.

    python benchmarks/accuracy.py benchmarks/accuracy.yaml OUT --set data.path=FOLDER [--only NAME ...]
    [--table]

Experiments are named; each is the file's job with other settings (`set`, after the file's own) or another job
(`job`), and has `seeds`. A run lives in OUT/NAME/seed-S and is the stages up to `evaluate`, all of them on
one Ray; what was cut off goes on and what is done is skipped. Printed are means over the runs, popularity's
as the first of them has it, and `mmssl-dist compare`'s tests of every experiment against the first one, user
by user; --table runs nothing. --results writes the figures of the first table to a file, from which
`benchmarks/tables.py` makes the document's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from tables import table

from mmssl_dist import __version__
from mmssl_dist.app.reporting import reporting
from mmssl_dist.config import Job, load_job
from mmssl_dist.launch.lazy_cluster import LazyCluster, lazy_cluster
from mmssl_dist.pipeline.stages import run_stage
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


def arguments_of(description: str | None) -> argparse.Namespace:
    """The command line of a script that makes the runs of a YAML file of experiments, and their table."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="override of every run")
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--results", type=Path, help="file to write the table's figures to, as JSON")
    parser.add_argument("--table", action="store_true", help="only report what is there")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of(__doc__)
    experiments = read(yaml.safe_load(arguments.experiments.read_text()))
    if not arguments.table:
        chosen = [
            experiment
            for experiment in experiments
            if not arguments.only or experiment.name in arguments.only
        ]
        try:
            with reporting(debug=False):
                run(
                    [(experiment, seed) for experiment in chosen for seed in experiment.seeds],
                    arguments.out,
                    arguments.sets,
                )
        except typer.Exit as end:
            sys.exit(end.exit_code)
    done = {experiment.name: finished(experiment, arguments.out) for experiment in experiments}
    done = {name: runs for name, runs in done.items() if runs}
    if not done:
        sys.exit(f"{arguments.out}: no finished run of {arguments.experiments}")
    results = {"experiments": measured(done)}
    sys.stdout.write("\n".join(table(results)) + "\n")
    if arguments.results:
        head = {"provenance": provenance(), "command": shlex.join(["benchmarks/accuracy.py", *sys.argv[1:]])}
        arguments.results.write_text(json.dumps({**head, **results}, indent=1) + "\n")
    compare(done)


def provenance() -> str:
    """The version whose code is run, and its commit where it is a checkout's."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603
    return f"mmssl-dist {__version__}, commit {described.stdout.strip() or 'unknown'}"


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
        load_job(
            Path(experiment.job),
            [*experiment.sets, *sets, f"seed={seed}", f"output={_folder(out, experiment, seed)}"],
        )
        for experiment, seed in wanted
    ]
    with lazy_cluster(max(jobs, key=lambda job: job.scaling.fewest)) as cluster:
        for job in jobs:
            make(job, cluster)


def make(job: Job, cluster: LazyCluster) -> None:
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
        same_cut = [path.parent for path in folder.parents[1].glob(f"*/{folder.name}/{stage}/manifest.json")]
        if same_cut and not (folder / stage).exists():
            shutil.copytree(same_cut[0], folder / stage)


def finished(experiment: Experiment, out: Path) -> list[Path]:
    """The experiment's runs that are evaluated, in the order of its seeds."""
    runs = [_folder(out, experiment, seed) for seed in experiment.seeds]
    return [run for run in runs if (run / "evaluation" / "manifest.json").exists()]


def measured(done: dict[str, list[Path]]) -> list[dict[str, Any]]:
    """The figures of each experiment's runs, and last those of popularity as the first run has them."""
    figures = []
    for name, runs in done.items():
        trained = [json.loads((run / "training" / "manifest.json").read_text())["facts"] for run in runs]
        figures.append(_figures(name, [_metrics(run) for run in runs], [f["best_epoch"] for f in trained]))
    first = next(iter(done.values()))[0]
    return [*figures, _figures("popularity", [_metrics(first)["baselines"]["popularity"]], [])]


def compare(done: dict[str, list[Path]]) -> None:
    """Print every experiment beside the first, paired by user."""
    groups = [f"{name}={','.join(map(str, runs))}" for name, runs in done.items()]
    for metric in ("recall@20", "ndcg@20"):
        sys.stdout.write(f"\nAgainst {next(iter(done))}, {metric}:\n\n")
        sys.stdout.flush()
        comparison = [*COMMAND, "compare", *groups, "--metric", metric, "--popularity"]
        subprocess.run(comparison, check=True)  # noqa: S603


def _metrics(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return result


def _figures(name: str, runs: list[dict[str, Any]], epochs: list[int]) -> dict[str, Any]:
    cold = [run["cold"]["test"]["recall@20"] for run in runs if "test" in run.get("cold", {})]
    return {
        "name": name,
        "runs": len(runs),
        **{f"{split} recall@20": _summary(runs, split) for split in ("validation", "test")},
        "test ndcg@20": sum(run["test"]["ndcg@20"] for run in runs) / len(runs),
        "cold test recall@20": sum(cold) / len(cold) if cold else None,
        "best epochs": epochs,
    }


def _summary(runs: list[dict[str, Any]], split: str) -> dict[str, Any]:
    summary = Summary(tuple(run[split]["recall@20"] for run in runs))
    return {"mean": summary.mean, "runs": list(summary.values), "standard error": summary.error}


if __name__ == "__main__":
    main()
