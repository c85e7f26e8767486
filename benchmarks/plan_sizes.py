"""What `mmssl-dist plan` says of three graphs, into docs/results/: benchmarks/plan_sizes.py"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/plan_sizes.json"
GIGABYTES = 64
HOUR = 3600


@dataclass(frozen=True)
class Graph:
    """Sizes of a graph, and the workers it is planned for."""

    users: int
    items: int
    interactions: int
    workers: int

    def __str__(self) -> str:
        counts = ", ".join(map(_short, (self.users, self.items, self.interactions)))
        return f"{counts}; {self.workers} workers"


GRAPHS = (
    Graph(10_000_000, 2_000_000, 500_000_000, 8),
    Graph(100_000_000, 10_000_000, 5_000_000_000, 64),
    Graph(1_000_000_000, 100_000_000, 100_000_000_000, 512),
)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    plans = [plan(graph) for graph in GRAPHS]
    stages = [stage["stage"] for stage in plans[0]["stages"]]
    rows = [[name, *(_cell(found["stages"][row]) for found in plans)] for row, name in enumerate(stages)]
    rows.append(["fewest workers that fit", *(str(found["least_workers"]) for found in plans)])
    rows.append(["what breaks", *("; ".join(found["breaks"]) or "nothing" for found in plans)])
    columns = ["", *map(str, GRAPHS)]
    text = {"provenance": "`python benchmarks/plan_sizes.py`", "columns": columns, "rows": rows}
    RESULTS.write_text(json.dumps(text, indent=1) + "\n")


def plan(graph: Graph) -> dict[str, Any]:
    """The facts of `mmssl-dist plan --json` for `jobs/large.yaml` with the graph's workers."""
    command = shutil.which("mmssl-dist")
    if command is None:
        raise SystemExit("mmssl-dist is not installed")
    sizes = {"users": graph.users, "items": graph.items, "interactions": graph.interactions}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    parts = max(64, graph.workers)
    for setting in (f"scaling.workers={graph.workers}", f"partition.parts={parts}"):
        options += ["--set", setting]
    options += ["--modality", "image=512", "--modality", "text=384", f"--memory={GIGABYTES}"]
    result = subprocess.run(  # noqa: S603, this package's own command
        [command, "plan", "jobs/large.yaml", *options, "--no-calibrate", "--json"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def _cell(stage: dict[str, Any]) -> str:
    processes = f"{stage['workers']:,} x {stage['memory'] / 1e9:.1f} GB"
    seconds = stage["seconds"]
    time = f"{seconds / HOUR:,.1f} h" if seconds >= HOUR else f"{seconds / 60:.1f} min"
    return f"{processes}, {time}"


def _short(count: int) -> str:
    return f"{count // 10**9}B" if count >= 10**9 else f"{count // 10**6}M"


if __name__ == "__main__":
    main()
