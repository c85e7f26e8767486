"""What `partition` makes of graphs and catalogues, into docs/results/: benchmarks/partitioning.py cuts|recall

cuts: edge cut, balance and processor seconds of the three ways to cut, on four graphs, with one worker.
recall: the item-item graph beside the exact one, on planted catalogues; the sizes are arguments.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mmssl_dist.datasets.synthesize import draw_interactions, make_synthesis_plan
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.bipartite import Bipartite, bipartite
from mmssl_dist.graph.cut import metis_cut, random_cut
from mmssl_dist.graph.homes import homes
from mmssl_dist.graph.own_lists import unevenness
from mmssl_dist.graph.similar import similar_items
from mmssl_dist.graph.streaming import streaming_cut

RESULTS = Path(__file__).resolve().parents[1] / "docs/results"
ALONE = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=Path(), group=None)
NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["cuts", "recall"])
    parser.add_argument("--tiktok", type=Path, help="cuts: MMSSL's release of TikTok")
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000], help="recall: sizes")
    options = parser.parse_args()
    if options.what == "cuts":
        write("cuts.json", CUT_COLUMNS, cuts(options.tiktok), "`python benchmarks/partitioning.py cuts`")
    else:
        rows = recalls(options.items)
        write("item_graph.json", RECALL_COLUMNS, rows, "`python benchmarks/partitioning.py recall`")


CUT_COLUMNS = ["edge cut (seconds; most edges of a part over the mean)", "random", "streaming", "METIS"]
RECALL_COLUMNS = ["item-item graph by cells", "share of the exact 10 nearest, over 256 items", "seconds"]


def write(name: str, columns: list[str], rows: Iterator[list[str]], source: str) -> None:
    content = {"provenance": f"{source}, one worker, one core", "columns": columns, "rows": list(rows)}
    (RESULTS / name).write_text(json.dumps(content, indent=1) + "\n")


def cuts(tiktok: Path | None) -> Iterator[list[str]]:
    graphs = [("planted communities, 100,000 users, 1.9M interactions", planted())]
    if tiktok is not None:
        graphs.append(("TikTok", released(tiktok)))
    for name, graph in graphs:
        for parts in (4, 8):
            yield [f"{name}, P = {parts}", *(cut_of(graph, parts, method) for method in METHODS)]


METHODS = ("random", "streaming", "metis")


def cut_of(graph: Bipartite, parts: int, method: str) -> str:
    alone = homes(ALONE, graph.users, graph.items)
    started = processor_seconds()
    if method == "metis":
        part = metis_cut(graph, parts)
    elif method == "random":
        part = np.concatenate(random_cut(alone, parts, seed=1))
    else:
        part = np.concatenate(streaming_cut(alone, graph.of_user, graph.of_item, parts, seed=1))
    seconds = processor_seconds() - started
    of_user = np.repeat(part[: graph.users], graph.of_user.lengths)
    crossing = np.mean(of_user != part[graph.users :][graph.of_user.values])
    edges = unevenness(np.bincount(part, graph.degrees, minlength=parts))
    return f"{crossing:.3f} ({seconds:.1f} s; {edges:.2f})"


def planted() -> Bipartite:
    plan = make_synthesis_plan(
        users=100_000, items=30_000, interactions=2_000_000, modalities={"image": 1}, seed=1
    )
    return bipartite(*draw_interactions(plan, 0, 100_000), (100_000, 30_000))


def released(folder: Path) -> Bipartite:
    lists = json.loads((folder / "train.json").read_text())
    users = np.repeat(np.array(list(map(int, lists))), [len(items) for items in lists.values()])
    items = np.concatenate([np.asarray(items, np.int64) for items in lists.values()])
    return bipartite(users, items, (int(users.max()) + 1, int(items.max()) + 1))


def recalls(sizes: list[int]) -> Iterator[list[str]]:
    for items in sizes:
        for width, noise in ((64, 1), (64, 3), (512, 1)):
            rows = catalogue(items, width, noise)
            alone = homes(ALONE, 1, items)
            started = time.process_time()
            near = similar_items(alone, rows, NEIGHBOURS, seed=1, exact_up_to=0)
            seconds = time.process_time() - started
            name = f"{items:,} items, features {width} wide, noise {noise} times what communities share"
            yield [name, f"{near.recall:.3f}", f"{seconds:.0f}"]


def catalogue(items: int, width: int, noise: float) -> np.ndarray:
    """[items, width] float32: communities of some 300 items within 30 broader ones, and noise."""
    rng = np.random.default_rng(0)
    broad = rng.normal(size=(30, width)).astype(np.float32)
    narrow = rng.normal(size=(max(1, items // 300), width)).astype(np.float32)
    narrow += broad[rng.integers(0, 30, len(narrow))]
    rows = rng.normal(scale=noise, size=(items, width)).astype(np.float32)
    rows += narrow[rng.integers(0, len(narrow), items)]
    return rows


def processor_seconds() -> float:
    """Of this process and those it has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
