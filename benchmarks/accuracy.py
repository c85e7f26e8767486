"""Runs the experiments of a YAML file, those that are not there yet, and prints the table that compares them.

    python benchmarks/accuracy.py benchmarks/accuracy.yaml OUT --set data.path=FOLDER [--only NAME ...] [--table]

Experiments are named; each is the file's job with other settings (`set`) or another job (`job`), and has `seeds`. A run
lives in OUT/NAME/seed-S and is made with `mmssl-dist run`, so what was cut off goes on and what is done is skipped. The
first experiment is what the others are compared with, by `mmssl-dist compare`; --table runs nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REUSED = ("dataset", "partitions")
"""Stages that most experiments of one seed share; `run` makes them again where they differ."""
COMMAND = [sys.executable, "-c", "from mmssl_dist.app import main; main()"]


@dataclass(frozen=True)
class Experiment:
    """One row of the table; ``sets`` are overrides of ``job``."""

    name: str
    job: str
    sets: tuple[str, ...]
    seeds: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="override of every run")
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--table", action="store_true", help="only compare what is there")
    arguments = parser.parse_args()
    experiments = read(yaml.safe_load(arguments.experiments.read_text()))
    if not arguments.table:
        for experiment in experiments:
            if not arguments.only or experiment.name in arguments.only:
                for seed in experiment.seeds:
                    run(experiment, seed, arguments.out, arguments.sets)
    compare(experiments, arguments.out)


def read(tree: dict[str, Any]) -> list[Experiment]:
    """The file's experiments, in its order."""
    return [
        Experiment(
            name,
            settings.get("job", tree["job"]),
            tuple(settings.get("set", ())),
            tuple(settings.get("seeds", tree["seeds"])),
        )
        for name, settings in tree["experiments"].items()
    ]


def run(experiment: Experiment, seed: int, out: Path, sets: list[str]) -> None:
    """Make the run, if it isn't there; raises CalledProcessError when it fails."""
    folder = out / experiment.name / f"seed-{seed}"
    for stage in REUSED:
        there = [path for path in out.glob(f"*/seed-{seed}/{stage}/manifest.json") if path.parent.parent != folder]
        if there and not (folder / stage).exists():
            shutil.copytree(there[0].parent, folder / stage)
    overrides = [*experiment.sets, *sets, f"seed={seed}", f"output={folder}"]
    sys.stdout.write(f"{experiment.name}, seed {seed}\n")
    sys.stdout.flush()
    command = [*COMMAND, "run", experiment.job, *(x for each in overrides for x in ("--set", each))]
    subprocess.run(command, check=True)  # noqa: S603


def compare(experiments: list[Experiment], out: Path) -> None:
    """Print the table of what is there."""
    groups = []
    for experiment in experiments:
        runs = [out / experiment.name / f"seed-{seed}" for seed in experiment.seeds]
        done = [str(run) for run in runs if (run / "evaluation" / "manifest.json").exists()]
        if done:
            groups.append(f"{experiment.name}={','.join(done)}")
    for metric in ("recall@20", "ndcg@20"):
        subprocess.run([*COMMAND, "compare", *groups, "--metric", metric, "--popularity"], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
