"""Searches settings for every model of a YAML file by the same number of trials, and trains the best ones.

    python benchmarks/tuned_baselines.py benchmarks/tuned_baselines.yaml OUT --set data.path=FOLDER
        [--only NAME ...] [--table] [--results docs/results/tuned_baselines.json]

A search is `mmssl-dist tune` in OUT/NAME/search; what it chose by validation is trained with each of the
file's seeds in OUT/NAME/seed-S, and evaluated once. What is done is not repeated; --table runs nothing.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import accuracy
import typer
import yaml
from accuracy import Experiment, provenance
from tables import table

from mmssl_dist.app.reporting import reporting
from mmssl_dist.config import load_job
from mmssl_dist.launch.lazy_cluster import lazy_cluster
from mmssl_dist.pipeline.setting_search import search

COLUMNS = (
    "model",
    "settings searched, and their best values",
    "trials, of them stopped early",
    "validation Recall@20 of the best trial",
    "runs",
    "validation Recall@20",
    "test Recall@20",
    "standard error over runs",
    "test NDCG@20",
)


def main() -> None:
    arguments = accuracy.arguments_of(__doc__)
    tree = yaml.safe_load(arguments.experiments.read_text())
    if not arguments.table:
        try:
            with reporting(debug=False):
                for name in arguments.only or tree["experiments"]:
                    make(tree, name, arguments.out, arguments.sets)
        except typer.Exit as end:
            sys.exit(end.exit_code)
    done = [
        name
        for name in tree["experiments"]
        if accuracy.finished(best(tree, name, arguments.out), arguments.out)
    ]
    content = {
        "provenance": provenance(),
        "command": shlex.join(["benchmarks/tuned_baselines.py", *sys.argv[1:]]),
        "columns": list(COLUMNS),
        "rows": [row(best(tree, name, arguments.out), arguments.out) for name in done],
    }
    sys.stdout.write("\n".join(table(content)) + "\n")
    if arguments.results:
        arguments.results.write_text(json.dumps(content, indent=1) + "\n")


def make(tree: Mapping[str, Any], name: str, out: Path, sets: Sequence[str]) -> None:
    """Search settings for one model, and train the best ones."""
    settings = tree["experiments"][name]
    overrides = [
        *tree["set"],
        *settings.get("set", ()),
        *sets,
        f"search.trials={tree['trials']}",
        f"search.space={json.dumps(settings['space'])}",
        f"output={out / name / 'search'}",
    ]
    search(load_job(Path(settings["job"]), overrides), lazy_cluster)
    chosen = best(tree, name, out)
    accuracy.run([(chosen, seed) for seed in chosen.seeds], out, sets)


def best(tree: Mapping[str, Any], name: str, out: Path) -> Experiment:
    """The job that a search chose, as an experiment."""
    return Experiment(name, str(out / name / "search/tuning/best.yaml"), (), tuple(tree["seeds"]))


def row(chosen: Experiment, out: Path) -> list[str]:
    """A model's search, and what its best settings give, under COLUMNS."""
    trials = json.loads((Path(chosen.job).parent / "trials.json").read_text())
    stopped = sum(trial["state"] == "stopped" for trial in trials)
    values = ", ".join(f"{name} {_shown(value)}" for name, value in trials[0].items() if "." in name)
    figures = accuracy.measured({chosen.name: accuracy.finished(chosen, out)})[0]
    test = figures["test recall@20"]
    return [
        chosen.name,
        values,
        f"{len(trials)}, {stopped}",
        f"{trials[0]['best']:.4f}",
        str(figures["runs"]),
        f"{figures['validation recall@20']['mean']:.4f}",
        f"{test['mean']:.4f} ({' '.join(f'{value:.4f}' for value in test['runs'])})",
        "" if test["standard error"] is None else f"{test['standard error']:.4f}",
        f"{figures['test ndcg@20']:.4f}",
    ]


def _shown(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
