"""MMSSL as published, by this system and by its authors' code on the same data, into
docs/results/published.json:

    python benchmarks/published.py OUT --data NAME=RUN ... [--authors FILE] [--only NAME ...] [--seeds S ...]
        [--table]

RUN is the output of jobs/baselines/mmssl.yaml after `prepare`, on TikTok or on what
benchmarks/published_data.py writes. OUT/runs/ gets its partitions, and OUT/DATA SET/FORM/ the trainings of
benchmarks/published.yaml, by one worker and one thread. What is there is not made again; --table makes
nothing. The row of two workers on TikTok is that of docs/results/tiktok.json.

FILE has the figures of the authors' code, which is not part of this project: "provenance", and "runs", each
with "data", "form", "seed", "best epoch", "validation recall@20", "test recall@20" and "test ndcg@20" of the
epoch that is best on validation, and "validation recall@20 by epoch". Without FILE those in the results stay.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import single_process
import yaml
from accuracy import provenance
from feature_width import make

from mmssl_dist.report.runs import Summary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/published.json"
EARLIER = ("TikTok", ROOT / "docs/results/tiktok.json", "MMSSL as published")
"""A data set, and the file and the row with the job's runs on it by two workers."""
Runs = Sequence[Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", action="append", default=[], help="NAME=RUN, with its dataset")
    parser.add_argument("--authors", type=Path, help="figures of the authors' code")
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--seeds", nargs="*", type=int, help="seeds to run")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    tree = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    if not arguments.table:
        for name, run, form in single_process.wanted(tree, arguments.data, arguments.only):
            make(
                form=form,
                name=name,
                run=Path(run),
                out=arguments.out,
                seeds=arguments.seeds or list(form.seeds),
            )
    authors = json.loads((arguments.authors or RESULTS).read_text())
    if arguments.authors is None:
        authors = authors["authors"]
    content = {
        "provenance": f"{provenance()}; the authors' code: {authors['provenance']}",
        "command": shlex.join(["benchmarks/published.py", *sys.argv[1:]]),
        "experiments": list(rows(tree, arguments.out, authors["runs"])),
        "authors": authors,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def rows(tree: Mapping[str, Any], out: Path, authors: Runs) -> Iterator[dict[str, Any]]:
    """Rows as benchmarks/tables.py reads them, data set by data set, the authors' code first."""
    for name in tree["data"]:
        for form in dict.fromkeys(run["form"] for run in authors if run["data"] == name):
            runs = [run for run in authors if (run["data"], run["form"]) == (name, form)]
            yield authors_row(f"{name}: {form}", runs)
        data_set, file, row = EARLIER
        if name == data_set:
            experiments = json.loads(file.read_text())["experiments"]
            (earlier,) = (entry for entry in experiments if entry["name"] == row)
            yield {**earlier, "name": f"{name}: every interaction once here, two workers, an earlier version"}
        for form in (experiment.name for experiment in single_process.of_data_set(tree, name)):
            if finished := single_process.finished(out / name / form):
                yield single_process.row(f"{name}: {form} here", finished)


def authors_row(name: str, runs: Runs) -> dict[str, Any]:
    """A row of runs of the authors' code."""
    measured = {}
    for metric in ("validation recall@20", "test recall@20"):
        summary = Summary(tuple(run[metric] for run in runs))
        values = list(summary.values)
        measured[metric] = {"mean": summary.mean, "runs": values, "standard error": summary.error}
    return {
        "name": name,
        "runs": len(runs),
        "seeds": [run["seed"] for run in runs],
        **measured,
        "test ndcg@20": sum(run["test ndcg@20"] for run in runs) / len(runs),
        "cold test recall@20": None,
        "best epochs": [run["best epoch"] for run in runs],
    }


if __name__ == "__main__":
    main()
