"""Lists through the index beside exact ones, into docs/results/: benchmarks/index_lists.py SIZE...

Rows are planted, not trained: items lie in 1,000 clusters and differ in length, users lie between three
clusters' centres. Each user knows 20 of their own best 200 items, so that what is left out is what a search
finds first. One thread. The exact lists are made as `export.recommendations: exact` makes them.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
import torch

from mmssl_dist.config.training_sections import Index
from mmssl_dist.evaluation.ranking import Seen, top_k
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.export.index import ListComparison, make_index, tune_lists
from mmssl_dist.serving.item_search import best_items

RESULTS = Path(__file__).resolve().parents[1] / "docs/results/index_lists.json"
K, KNOWN, OF_BEST, USERS, CLUSTERS = 50, 20, 200, 1000, 1000
COLUMNS = [
    "items, width",
    "cells, of them looked into",
    "share of the exact top 50",
    "exact, ms a user",
    "by the index, ms a user",
    "times as fast",
    "index built in",
    "memory of building it / rows",
]
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    source = (
        f"`python benchmarks/index_lists.py`, one core, planted rows, {USERS:,} users of {KNOWN} known items"
    )
    rows = list(measured(options.items, options.width))
    RESULTS.write_text(json.dumps({"provenance": source, "columns": COLUMNS, "rows": rows}, indent=1) + "\n")


def measured(sizes: list[int], width: int) -> Iterator[list[str]]:
    for items in sizes:
        item_rows, user_rows = planted(items, width)
        _, best = faiss.knn(user_rows, item_rows, OF_BEST, faiss.METRIC_INNER_PRODUCT)
        chosen = np.random.default_rng(1).permuted(best, axis=1)[:, :KNOWN]
        known = np.arange(USERS + 1) * KNOWN, np.sort(chosen, 1).ravel()
        settings = Index(kind="ivf")
        started = time.perf_counter()
        index, peak = with_peak(partial(make_index, item_rows, settings))
        built = time.perf_counter() - started
        facts = tune_lists(index, ListComparison(item_rows, user_rows, known, K), settings)
        started = time.perf_counter()
        best_items(index=index, items=items, rows=user_rows, known=known, k=K)
        ours = (time.perf_counter() - started) / USERS
        started = time.perf_counter()
        exact(item_rows, user_rows, known)
        theirs = (time.perf_counter() - started) / USERS
        row = [
            f"{items:,}, {width}",
            f"{index.nlist:,}, {facts['probes']}",
            f"{facts['overlap']['value']:.4f}",
            f"{1000 * theirs:.2f}",
            f"{1000 * ours:.2f}",
            f"{theirs / ours:.1f}",
            f"{built:.0f} s",
            f"{peak / item_rows.nbytes:.2f}",
        ]
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        yield row


def planted(items: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of items and of users, float32."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, width)).astype(np.float32)
    rows = centres[rng.integers(0, CLUSTERS, items)]
    rows += 0.7 * rng.normal(size=rows.shape).astype(np.float32)
    rows *= rng.lognormal(0.0, 0.2, (items, 1)).astype(np.float32)
    liked = centres[rng.integers(0, CLUSTERS, (USERS, 3))].mean(1)
    return rows, np.asarray(liked + 0.3 * rng.normal(size=liked.shape), np.float32)


def exact(items: np.ndarray, users: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> None:
    """Rank every item for every user."""
    exchange = Exchange(None, np.asarray([0, len(items) + len(users)]), 0)
    seen = Seen(*map(torch.from_numpy, known))
    rows = torch.from_numpy(users), torch.from_numpy(items)
    nodes = torch.arange(len(items))
    top_k(
        users=rows[0],
        seen=[seen],
        items=rows[1],
        item_nodes=nodes,
        k=K,
        user_block=256,
        item_block=65536,
        exchange=exchange,
    )


def with_peak(make: Callable[[], Result]) -> tuple[Result, int]:
    """What ``make`` returns, and the most anonymous memory that this process had more than before."""
    before = peak = own_memory()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = make()
    finally:
        ended.set()
        watcher.join()
    return result, peak - before


def own_memory() -> int:
    """Bytes of anonymous memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
