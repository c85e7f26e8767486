"""Pairs per second of two workers beside one, and beside another version of this project, in turns.

    python benchmarks/two_workers.py OTHER [--rounds N]

OTHER is a checkout, as for benchmarks/against.py. Each worker has a core to itself and 1,024 pairs a step of
its own, so the batch grows with the workers. Writes docs/results/two_workers.json and
docs/results/two_workers_phases.json, which docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import pipeline
from against import ROOT, commit_of, environment_of
from scaling import LOSSES, OTHER, RATE, WAITING, Measured, measure, middle, ratios, sets_of
from workers import Figures

OTHER_LOSSES = ("losses.adversarial.weight=0.1", "losses.contrastive.weight=0.03")
"""All losses, in a version whose terms have no kinds yet."""
PHASES = ("sample", "wait", "fetch", "forward", "critic", "generator", "update", "agree", "step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    other = options.other.resolve()
    with tempfile.TemporaryDirectory(prefix="two-workers-") as name:
        folder = Path(name)
        pipeline.prepare(folder)
        pipeline.partition(folder)
        for stage in ("prepare", "partition"):
            subprocess.run(  # noqa: S603
                [*pipeline.COMMAND, stage, "job.yaml", "--set", "output=other"],
                cwd=folder,
                check=True,
                env=environment_of(other),
            )
        measured = measure(folder, options.rounds, lambda: _train_other(other, folder))
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    provenance = f"benchmarks/two_workers.py, {options.rounds} rounds in turns, {commit_of(ROOT)}; {load}"
    _write("two_workers.json", provenance, *_rates(measured, commit_of(other)))
    _write("two_workers_phases.json", provenance, *_phases(measured))


def _rates(measured: Measured, other: str) -> tuple[list[str], list[list[str]]]:
    columns = [
        "losses",
        "pairs/s, W = 1",
        "pairs/s, W = 2",
        "W = 2 / W = 1, median of the rounds",
        "all rounds",
        "share waiting, W = 1",
        "share waiting, W = 2",
    ]
    rows = []
    for losses in LOSSES:
        one, two, gains = measured[losses, 1], measured[losses, 2], ratios(measured, losses)
        rates = [f"{middle(runs, RATE):,.0f}" for runs in (one, two)]
        shares = [f"{middle(runs, WAITING):.3f}" for runs in (one, two)]
        rows.append([losses, *rates, f"{median(gains):.2f}", " ".join(f"{g:.2f}" for g in gains), *shares])
    runs = measured[OTHER, 2]
    empty = [""] * 2
    rate, share = f"{middle(runs, RATE):,.0f}", f"{middle(runs, WAITING):.3f}"
    rows.append([f"all losses, {other}", "", rate, *empty, "", share])
    return columns, rows


def _phases(measured: Measured) -> tuple[list[str], list[list[str]]]:
    rows = []
    for (losses, workers), runs in measured.items():
        if losses != OTHER:
            times = [middle(runs, f"seconds/{phase}/p50") * 1e3 for phase in PHASES]
            rows.append([f"{losses}, W = {workers}", *(f"{time:.0f}" if time else "" for time in times)])
    return ["ms", "sample (beside the step)", *PHASES[1:]], rows


def _write(name: str, provenance: str, columns: list[str], rows: list[list[str]]) -> None:
    content: dict[str, Any] = {"provenance": provenance, "columns": columns, "rows": rows}
    (ROOT / "docs/results" / name).write_text(json.dumps(content, indent=1) + "\n")


def _train_other(other: Path, folder: Path) -> Figures:
    code = (
        "import json, sys; from pathlib import Path; from workers import train; "
        "print(json.dumps(train(Path(sys.argv[1]), json.loads(sys.argv[2]), 2)))"
    )
    path = os.pathsep.join(map(str, (other, other / "benchmarks")))
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-c",
            code,
            str(folder / "job.yaml"),
            json.dumps([*sets_of("other", 2), *OTHER_LOSSES]),
        ],
        cwd=other,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment_of(other), "PYTHONPATH": path},
    )
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
