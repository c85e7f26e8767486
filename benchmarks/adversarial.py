"""The forms of the adversarial perturbation on several data sets, run as `benchmarks/accuracy.py` does.

    python benchmarks/adversarial.py OUT --data TikTok=FOLDER --data "MovieLens 100K=FOLDER" ... [--table]
        [--only NAME ...] [--results FILE]

The experiments, and the job of each data set, are those of benchmarks/adversarial.yaml; data sets that are
not given are left out. A run lives in OUT/DATA SET/EXPERIMENT/seed-S. Printed is one table, and for each data
set every form beside "none", paired by user.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from accuracy import Experiment, compare, finished, measured, provenance, read, run
from tables import table

from mmssl_dist.app.reporting import reporting

EXPERIMENTS = Path(__file__).with_suffix(".yaml")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--data", action="append", required=True, help="NAME=FOLDER of a data set's raw files"
    )
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--results", type=Path, help="file to write the table's figures to, as JSON")
    parser.add_argument("--table", action="store_true", help="only compare what is there")
    arguments = parser.parse_args()
    tree = yaml.safe_load(EXPERIMENTS.read_text())
    folders = dict(text.split("=", 1) for text in arguments.data)
    if unknown := folders.keys() - tree["data"].keys():
        sys.exit(f"--data {', '.join(sorted(unknown))}: must be one of {', '.join(tree['data'])}")
    experiments = {name: of_data_set(tree, name) for name in tree["data"] if name in folders}
    if not arguments.table:
        for name, forms in experiments.items():
            chosen = [form for form in forms if not arguments.only or form.name in arguments.only]
            wanted = [(form, seed) for form in chosen for seed in form.seeds]
            try:
                with reporting(debug=False):
                    run(wanted, arguments.out / name, [f"data.path={folders[name]}"])
            except typer.Exit as end:
                sys.exit(end.exit_code)
    report(experiments, arguments.out, arguments.results)


def of_data_set(tree: Mapping[str, Any], name: str) -> list[Experiment]:
    """Every form as an experiment on one data set."""
    own = tree["data"][name]
    return read({**tree, "job": own["job"], "set": [*tree["set"], *own.get("set", ())]})


def report(experiments: Mapping[str, list[Experiment]], out: Path, results: Path | None) -> None:
    """Print the runs that are there, and write their figures to ``results``."""
    done = {
        name: {form.name: runs for form in forms if (runs := finished(form, out / name))}
        for name, forms in experiments.items()
    }
    figures = [
        {**row, "name": f"{name}: {row['name']}"}
        for name, runs in done.items()
        if runs
        for row in measured(runs)[:-1]  # the last is popularity
    ]
    if not figures:
        sys.exit(f"{out}: no finished run of {EXPERIMENTS}")
    sys.stdout.write("\n".join(table({"experiments": figures})) + "\n")
    if results:
        command = shlex.join(["benchmarks/adversarial.py", *sys.argv[1:]])
        head = {"provenance": provenance(), "command": command}
        results.write_text(json.dumps({**head, "experiments": figures}, indent=1) + "\n")
    for name, runs in done.items():
        if len(runs) > 1:
            sys.stdout.write(f"\n{name}\n")
            compare(runs)


if __name__ == "__main__":
    main()
