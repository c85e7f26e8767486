"""Memory of a worker, two beside one, and beside the plan: python benchmarks/memory.py FOLDER

On 100,000 users, by the real commands. Writes docs/results/memory.json, which docs/performance.md shows.
FOLDER keeps the data and the partitions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pipeline

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.prepare(folder)
    pipeline.partition(folder)
    rows = [
        [
            figure.name,
            f"{figure.value:.2f}",
            *("" if x is None else f"{x:g}" for x in (figure.bar, figure.aim)),
            figure.baseline,
        ]
        for figure in pipeline.memory_figures(folder)
    ]
    content = {
        "provenance": "benchmarks/memory.py, 100,000 users, 30,000 items, 1.9 million interactions",
        "columns": ["figure", "value", "bar", "aim", "beside"],
        "rows": rows,
    }
    (ROOT / "docs/results/memory.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
