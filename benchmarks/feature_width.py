"""Accuracy and size of partitions with fewer feature dimensions and with rows of 16 bits, into
docs/results/feature_width.json:

    python benchmarks/feature_width.py OUT --data NAME=RUN ... [--seeds S ...] [--table]

RUN is the output of that data set's job after `prepare`; OUT/runs/ gets partitions of each form, and
OUT/DATA SET/FORM/ its trainings, by one worker and one thread. What is there is not made again; --table makes
nothing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import single_process
import yaml
from accuracy import Experiment, provenance

from mmssl_dist.config import load_job
from mmssl_dist.graph.partition import partition
from mmssl_dist.storage import RunFolder

ROOT = Path(__file__).resolve().parents[1]
PARTITION = "partition."
COLUMNS = (
    "data set: form",
    "widths",
    "share of the squared length",
    "MB of partitions",
    "seeds",
    "validation Recall@20",
    "test Recall@20",
    "test Recall@20 against none, 95 % interval",
    "p",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", action="append", default=[], help="NAME=RUN, with its dataset")
    parser.add_argument("--seeds", nargs="*", type=int, help="seeds to run")
    parser.add_argument("--table", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    tree = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    if not arguments.table:
        for name, run, form in single_process.wanted(tree, arguments.data):
            make(
                form=form,
                name=name,
                run=Path(run),
                out=arguments.out,
                seeds=arguments.seeds or list(form.seeds),
            )
    content = {
        "provenance": provenance(),
        "command": shlex.join(["benchmarks/feature_width.py", *sys.argv[1:]]),
        "columns": list(COLUMNS),
        "rows": list(rows(tree, arguments.out)),
    }
    (ROOT / "docs/results/feature_width.json").write_text(json.dumps(content, indent=1) + "\n")


def make(form: Experiment, name: str, run: Path, out: Path, seeds: list[int]) -> None:
    """Partition a data set in one form, and train on it."""
    folder = out / "runs" / name / form.name
    if not (folder / "partitions/manifest.json").exists():
        shutil.copytree(run / "dataset", folder / "dataset", dirs_exist_ok=True)
        job = load_job(ROOT / form.job, ["data.path=unused", *form.sets, f"output={folder}"])
        partition(job, RunFolder.of(job).dataset.require())
    trained = replace(form, sets=tuple(text for text in form.sets if not text.startswith(PARTITION)))
    for seed in seeds:
        single_process.train_once(trained, seed, str(folder), out / name / form.name / f"seed-{seed}.npz")


def rows(tree: Mapping[str, Any], out: Path) -> Iterator[list[str]]:
    """The table, of what is there."""
    for name in tree["data"]:
        forms = single_process.of_data_set(tree, name)
        runs = {form.name: single_process.finished(out / name / form.name) for form in forms}
        for form in (form.name for form in forms if runs[form.name]):
            manifest = json.loads((out / "runs" / name / form / "partitions/manifest.json").read_text())
            yield [f"{name}: {form}", *_cells(manifest["facts"], runs[form], runs[single_process.BASELINE])]


def _cells(facts: Mapping[str, Any], runs: Mapping[int, Any], others: Mapping[int, Any]) -> list[str]:
    figures = single_process.row("", runs)
    beside = ["", ""]
    if runs is not others and runs.keys() & others.keys():
        value = single_process.paired(runs, others)["test recall@20"]
        low, high = value["95 % interval"]
        beside = [f"{value['difference']:+.4f} ({low:+.4f} to {high:+.4f})", f"{value['p']:.4f}"]
    kept = [f"{modality} {reduced['kept']:.2f}" for modality, reduced in facts["reduced"].items()]
    return [
        ", ".join(f"{modality} {width}" for modality, width in facts["modalities"].items()),
        ", ".join(kept),
        f"{facts['bytes'] / 1e6:.1f}",
        " ".join(map(str, runs)),
        *(f"{figures[f'{split} recall@20']['mean']:.4f}" for split in single_process.SPLITS),
        *beside,
    ]


if __name__ == "__main__":
    main()
