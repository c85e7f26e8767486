"""Every benchmark, into docs/benchmarks.md and benchmarks/results.json: python benchmarks/speed.py"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pipeline
import steps
from figures import write

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for source in (steps.figures(), pipeline.figures(Path(name))):
            for figure in source:
                found.append(figure)
    write(found, ROOT)


if __name__ == "__main__":
    main()
