"""How fast Parquet is read from an S3 server on this machine: by pyarrow alone, and the way `prepare` reads
it.

`make rate` runs it. The server is a folder's, in a process of its own; both readers ask it for the same
objects.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from tests.clusters import free_port
from tests.jobs import make_job

WIDTH = 256
GROUP_ROWS = 32_768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        size = _write(Path(folder), options.megabytes, options.files)
        command = [sys.executable, "-m", "tests.benchmarks.folder_server", folder, str(port)]
        server = subprocess.Popen(command)
        try:
            _wait_for(port)
            _compare(endpoint, size, options.rounds)
        finally:
            server.terminate()
            server.wait()


def _compare(endpoint: str, size: int, rounds: int) -> None:
    job = make_job(
        output="s3://raw/out",
        data={"path": "s3://raw", "modalities": {"image": {"file": "image"}}},
        storage={"endpoint": endpoint, "region": "us-east-1", "path_style": True},
    )
    _say(f"{size / 1e6:.0f} MB")
    readers: dict[str, Callable[[], int]] = {
        "pyarrow": lambda: _pyarrow(endpoint),
        "prepare": lambda: _ours(job),
    }
    best = dict.fromkeys(readers, 0.0)
    for _ in range(rounds):
        for name, read in readers.items():
            started = time.perf_counter()
            rows = read()
            rate = size / (time.perf_counter() - started) / 1e6
            best[name] = max(best[name], rate)
            _say(f"{name:<8} {rate:7.1f} MB/s  {rows} rows")
    _say(f"prepare's best is {best['prepare'] / best['pyarrow']:.2f} of pyarrow's")
    sys.exit(0 if best["prepare"] >= best["pyarrow"] / 2 else 1)


def _write(folder: Path, megabytes: int, files: int) -> int:
    """Feature files of random numbers, which no compression makes smaller; returns their bytes."""
    (folder / "image").mkdir()
    pq.write_table(pa.table({"user_id": [0], "item_id": [0]}), folder / "interactions.parquet")
    rng = np.random.default_rng(0)
    rows = megabytes * 2**20 // files // (4 * WIDTH + 8)
    total = 0
    for number in range(files):
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(rng.random(rows * WIDTH, dtype=np.float32)), WIDTH
        )
        ids = pa.array(np.arange(number * rows, (number + 1) * rows))
        path = folder / "image" / f"part-{number}.parquet"
        pq.write_table(
            pa.table({"item_id": ids, "vector": vectors}),
            path,
            row_group_size=GROUP_ROWS,
            use_dictionary=False,
        )
        total += path.stat().st_size
    return total


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the server did not start")


def _pyarrow(endpoint: str) -> int:
    """Every file in one call each, with pyarrow's own defaults."""
    filesystem = pafs.S3FileSystem(
        region="us-east-1", scheme="http", endpoint_override=endpoint.partition("://")[2], request_timeout=60
    )  # the default gives up on a busy machine
    files = filesystem.get_file_info(pafs.FileSelector("raw/image"))
    return sum(pq.read_table(file.path, filesystem=filesystem).num_rows for file in files)


def _ours(job: Job) -> int:
    source = open_sources(job.data, find_files(job)).features["image"]
    return sum(len(batch.items) for piece in source.pieces for batch in source.read(piece))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
