"""How long `prepare` takes for a folder of many small files, beside one file of the same rows.

`make files` runs it: in one Ray, by turns, and shows the medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.cluster.connection import connect
from mmssl_dist.data.files import find_files
from mmssl_dist.data.prepare import prepare
from tests.jobs import make_job

USERS, ITEMS, WIDTH = 500, 300, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.rows, options.files)
        counts = (1, options.files)
        jobs = {
            count: make_job(
                output=f"{folder}/out{count}",
                data={
                    "path": f"{folder}/raw",
                    "interactions": f"log{count}",
                    "modalities": {"image": {"file": f"image{count}"}},
                },
            )
            for count in counts
        }
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        job = jobs[1]
        with connect(job.scaling, job.storage):
            for _ in range(options.rounds + 1):
                for count, chosen in jobs.items():
                    started = time.perf_counter()
                    prepare(chosen, find_files(chosen))
                    seconds[count].append(time.perf_counter() - started)
        # The first round starts Ray's workers
        medians = {count: statistics.median(times[1:]) for count, times in seconds.items()}
        for count, median in medians.items():
            sys.stdout.write(f"{count:>5} file(s): {median:.2f} s, median of {options.rounds}\n")
        sys.stdout.write(f"ratio: {medians[options.files] / medians[1]:.2f}\n")


def write(folder: Path, rows: int, files: int) -> None:
    """The same rows in one file and in ``files``, of interactions and of features."""
    rng = np.random.default_rng(1)
    tables = {
        "log": pa.table({"user_id": rng.integers(0, USERS, rows), "item_id": rng.integers(0, ITEMS, rows)}),
        "image": pa.table({"item_id": range(ITEMS), "vector": rng.random((ITEMS, WIDTH)).tolist()}),
    }
    for name, table in tables.items():
        for count in (1, files):
            target = folder / "raw" / f"{name}{count}"
            target.mkdir(parents=True)
            for number, part in enumerate(np.array_split(np.arange(len(table)), count)):
                pq.write_table(table.take(pa.array(part)), target / f"part-{number:05}.parquet")


if __name__ == "__main__":
    main()
