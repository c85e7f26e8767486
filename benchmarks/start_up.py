"""Seconds of commands with next to nothing to compute, and of the demo: python benchmarks/start_up.py FOLDER

Every command starts a Ray of its own. Writes docs/results/start_up.json, which docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from pipeline import COMMAND

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
JOB = """\
output: output
data:
  path: raw
  modalities: {image: {file: features/image}}
partition: {parts: 2, method: random}
model: {dimension: 8, layers: 1}
training: {epochs: 2, batch_size: 256, fanout: [5]}
evaluation: {ks: [20]}
"""
SMALL = ("--users", "200", "--items", "100", "--interactions", "2000", "--modality", "image=16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(JOB)

    def call(*words: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(  # noqa: S603
            [*COMMAND, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def demo() -> None:
        with TemporaryDirectory(dir=folder) as name:
            call("synthesize", f"{name}/raw", "--seed", "7")
            sets = ("--set", f"data.path={name}/raw", "--set", f"output={name}/output")
            call("run", str(ROOT / "jobs/demo.yaml"), *sets)

    call("synthesize", "raw", *SMALL)
    call("run", "job.yaml")
    commands: list[tuple[str, float, float, int, Callable[[], None]]] = [
        ("`make demo`, installed", 100, 70, 3, demo),
        ("`evaluate --force`, 200 users", 6, 3, ROUNDS, lambda: call("evaluate", "job.yaml", "--force")),
        ("`export --force`, 200 users", 6, 3, ROUNDS, lambda: call("export", "job.yaml", "--force")),
        ("`run` with all stages up to date", 2, 2, ROUNDS, lambda: call("run", "job.yaml")),
    ]
    rows = []
    for name, bar, aim, rounds, command in commands:
        seconds = sorted(_seconds(command) for _ in range(rounds))
        every = " ".join(f"{second:.1f}" for second in seconds)
        rows.append([name, f"{median(seconds):.1f}", every, f"{bar:g}", f"{aim:g}" if aim < bar else ""])
    content = {
        "provenance": "benchmarks/start_up.py",
        "columns": ["command", "seconds, median", "all", "bar", "aim"],
        "rows": rows,
    }
    (ROOT / "docs/results/start_up.json").write_text(json.dumps(content, indent=1) + "\n")


def _seconds(command: Callable[[], None]) -> float:
    started = perf_counter()
    command()
    return perf_counter() - started


if __name__ == "__main__":
    main()
