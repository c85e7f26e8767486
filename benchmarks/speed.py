"""Every benchmark, into docs/benchmarks.md and benchmarks/results.json: python benchmarks/speed.py [--tiktok
FOLDER]"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pipeline
import steps
from figures import write

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tiktok", type=Path, help="MMSSL's release of TikTok; without it that figure is left out"
    )
    tiktok = parser.parse_args().tiktok
    result = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for source in (steps.figures(), pipeline.figures(Path(name), tiktok)):
            for figure in source:
                result.append(figure)
    left_out = "Seconds per epoch on TikTok are left out: no data set was given (`make bench DATA=folder`)."
    write(result, ROOT, [] if tiktok else [left_out])


if __name__ == "__main__":
    main()
