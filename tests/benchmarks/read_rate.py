"""How fast Parquet is read from an S3 server on this machine: by pyarrow alone, and the way `prepare` reads it.

`make rate` runs it. The server is moto's, in a process of its own; both readers ask it for the same objects.
"""

from __future__ import annotations

import argparse
import os
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

from mmssl_dist.config import Job, parse_job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_features, open_interactions
from tests.clusters import free_port
from tests.servers import client

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
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        size = _upload(endpoint, options.megabytes, options.files)
        tree = {"output": "s3://raw/out", "data": {"path": "s3://raw", "modalities": {"image": {"file": "image"}}},
                "storage": {"endpoint": endpoint, "region": "us-east-1", "path_style": True}}  # fmt: skip
        job = parse_job(tree)
        _say(f"{size / 1e6:.0f} MB in {options.files} files")
        readers: dict[str, Callable[[], int]] = {"pyarrow": lambda: _pyarrow(endpoint), "prepare": lambda: _ours(job)}
        best = dict.fromkeys(readers, 0.0)
        for _ in range(options.rounds):
            for name, read in readers.items():
                started = time.perf_counter()
                rows = read()
                rate = size / (time.perf_counter() - started) / 1e6
                best[name] = max(best[name], rate)
                _say(f"{name:<8} {rate:7.1f} MB/s  {rows} rows")
        _say(f"prepare's best is {best['prepare'] / best['pyarrow']:.2f} of pyarrow's")
        sys.exit(0 if best["prepare"] >= best["pyarrow"] / 2 else 1)
    finally:
        server.terminate()
        server.wait()


def _upload(endpoint: str, megabytes: int, files: int) -> int:
    """Put feature files of random numbers, which no compression makes smaller; returns their bytes."""
    s3 = client(endpoint)
    _wait_for(lambda: s3.create_bucket(Bucket="raw"))
    rng = np.random.default_rng(0)
    rows = megabytes * 2**20 // files // (4 * WIDTH + 8)
    total = 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "part.parquet"
        pq.write_table(pa.table({"user_id": [0], "item_id": [0]}), path)
        s3.upload_file(str(path), "raw", "interactions.parquet")
        for number in range(files):
            values = rng.random(rows * WIDTH, dtype=np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH)
            ids = pa.array(np.arange(number * rows, (number + 1) * rows))
            pq.write_table(pa.table({"item_id": ids, "vector": vectors}), path, row_group_size=GROUP_ROWS,
                           use_dictionary=False)  # fmt: skip
            total += path.stat().st_size
            s3.upload_file(str(path), "raw", f"image/part-{number}.parquet")
    return total


def _wait_for(call: Callable[[], object]) -> None:
    from botocore.exceptions import EndpointConnectionError

    for _ in range(100):
        try:
            call()
            return
        except EndpointConnectionError:
            time.sleep(0.3)
    raise TimeoutError("the server did not start")


def _pyarrow(endpoint: str) -> int:
    """Every file in one call each, with pyarrow's own defaults."""
    filesystem = pafs.S3FileSystem(region="us-east-1", scheme="http", endpoint_override=endpoint.partition("://")[2])
    files = filesystem.get_file_info(pafs.FileSelector("raw/image"))
    return sum(pq.read_table(file.path, filesystem=filesystem).num_rows for file in files)


def _ours(job: Job) -> int:
    files = find_files(job)
    interactions = open_interactions(job.data, files.interactions)
    source = open_features(job.data, files, interactions.item_type)["image"]
    return sum(len(batch.items) for piece in source.pieces for batch in source.read(piece))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
