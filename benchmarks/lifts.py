"""How often similar items are in one user's training items, beside chance.

    python benchmarks/lifts.py NAME=RUN ...

RUN is the output of a job after `prepare` and `partition`. As they are and with the items of the item-item
graph shuffled 20 times. Writes docs/results/lifts.json, which docs/accuracy.md shows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accuracy import provenance

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.co_occurrence import CoOccurrence, co_occurrence, sampled_pairs
from mmssl_dist.graph.numbering import owner_exchange
from mmssl_dist.graph.own_lists import OwnLists, load_own_lists
from mmssl_dist.graph.partition_files import load_partition, read_book
from mmssl_dist.storage import open_location, require_manifest

ROOT = Path(__file__).resolve().parents[1]
SHUFFLES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    rows = []
    for name, run in (text.split("=", 1) for text in parser.parse_args().runs):
        with tempfile.TemporaryDirectory() as cache:
            rows += [[name, *row] for row in rows_of(run, Path(cache))]
    content = {
        "provenance": provenance(),
        "command": "benchmarks/lifts.py NAME=RUN ...",
        "columns": [
            "data set",
            "modality",
            "pairs",
            "similar ones by chance",
            "lift",
            f"lift, shuffled {SHUFFLES} times",
        ],
        "rows": rows,
    }
    (ROOT / "docs/results/lifts.json").write_text(json.dumps(content, indent=1) + "\n")


def rows_of(run: str, cache: Path) -> Iterator[list[str]]:
    """The modalities of a run, under the columns after the first."""
    location = open_location(run, Storage()) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    book = read_book(manifest)
    alone = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=cache, group=None)
    own = load_own_lists(
        owner=owner_exchange(alone, book), book=book, location=location, manifest=manifest, cache=cache
    )
    parts = [load_partition(location, manifest, part, cache) for part in range(book.parts)]
    rng = np.random.default_rng(0)
    for modality in sorted(manifest.facts["modalities"]):
        lengths = np.concatenate([np.diff(part.similar[modality][0]) for part in parts])
        row = np.repeat(own.items, lengths)
        neighbours = np.concatenate([part.similar[modality][1] for part in parts])
        actual = compared(own, row, neighbours)
        lifts = []
        for _ in range(SHUFFLES):
            shuffled = np.arange(book.num_nodes)
            shuffled[own.items] = rng.permutation(own.items)
            lifts.append(compared(own, shuffled[row], shuffled[neighbours]).lift or 0.0)
        yield [
            modality,
            f"{actual.pairs:,}",
            f"{actual.by_chance:,.0f}",
            f"{actual.lift or 0.0:.2f}",
            f"{min(lifts):.2f} to {max(lifts):.2f}",
        ]


def compared(own: OwnLists, row: np.ndarray, neighbours: np.ndarray) -> CoOccurrence:
    order = np.lexsort((neighbours, row))
    return co_occurrence(own, sampled_pairs(own, 0), row[order], neighbours[order])


if __name__ == "__main__":
    main()
