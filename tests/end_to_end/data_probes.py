"""What becomes of a small raw folder: read by the readers, and prepared on Ray Data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.images import read_images
from mmssl_dist.data.prepare import prepare
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.titles import read_titles
from mmssl_dist.storage import open_location, require_manifest
from tests.jobs import make_job
from tests.pictures import PICTURES

USERS, ITEMS = 12, 9


def read(folder: Path, sets: Sequence[str]) -> object:
    """Rows, vectors, titles and images as the readers of the job's files give them."""
    settings = ("data.columns.time=time", "data.columns.split=part", "data.split.method=given")
    job = job_with_files(folder, (*settings, *sets))
    files = find_files(job)
    sources = open_sources(job.data, files)
    interactions, features = sources.interactions, sources.features
    rows = [table.to_pydict() for piece in interactions.pieces for table in interactions.read(piece)]
    vectors = {
        name: [
            (batch.items.to_pylist(), batch.vectors.tolist())
            for p in source.pieces
            for batch in source.read(p)
        ]
        for name, source in features.items()
    }
    contents = {
        name: [batch.content.to_pylist() for p in source.pieces for batch in source.read_content(p)]
        for name, source in features.items()
        if isinstance(source, ContentSource)
    }
    images = read_images(job, files.images, range(ITEMS)).by_item
    return rows, vectors, contents, read_titles(job.data, files.titles, range(ITEMS)), list(images)


def prepared(folder: Path, sets: Sequence[str]) -> object:
    """Where the dataset of the job is published, its facts and the content of its files."""
    job = job_with_files(folder, ("data.columns.time=time", *sets))
    prepare(job, find_files(job))
    manifest = require_manifest(open_location(job.output, job.storage) / "dataset", "dataset", "prepare")
    return job.output, manifest.facts, {name: record.sha256 for name, record in manifest.files.items()}


def job_with_files(folder: Path, sets: Sequence[str]) -> Job:
    """A job with its raw files; in overrides, paths are below ``folder``."""
    for number, name in enumerate(("raw", "raw-2")):
        if not (folder / name).exists():
            _write_raw(folder / name, number)
    data = {"path": "raw", "modalities": {"image": {"file": "image.parquet"}}}
    job = make_job(*sets, output="run", seed=3, data=data)
    below = job.data.model_copy(update={"path": str(folder / job.data.path)})
    return job.model_copy(update={"output": str(folder / job.output), "data": below})


def _write_raw(folder: Path, seed: int) -> None:
    """One file for every choice: two tables, an ``.inter`` file and two modalities, with two columns of each
    kind."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    pairs = np.argwhere(rng.random((USERS, ITEMS)) < 0.6)
    columns = {
        "user_id": pairs[:, 0],
        "item_id": pairs[:, 1],
        "time": 100 + rng.permutation(len(pairs)),  # apart from the ids, for null_values
        "part": np.arange(len(pairs)) % 3,
    }
    more = {
        "user_2": columns["user_id"][::-1],
        "item_2": columns["item_id"][::-1],
        "time_2": columns["time"][::-1],
        "part_2": (columns["part"] + 1) % 3,
    }
    pq.write_table(pa.table(columns | more).slice(5), folder / "other.parquet")
    # Seconds from 1 February 2026 on, for data.window
    more["epoch"] = 1_769_904_000 + columns["time"] - 100
    pq.write_table(pa.table(columns | more), folder / "interactions.parquet")
    again = pa.table(columns | more).slice(0, 40)
    pq.write_table(pa.concat_tables([pa.table(columns | more), again]), folder / "twice.parquet")
    lines = zip(*columns.values(), strict=True)
    header = "\t".join(f"{name}:token" for name in columns)
    text = [header, *("\t".join(str(value) for value in line) for line in lines)]
    (folder / "log.inter").write_text("".join(f"{line}\n" for line in text[:-3]))
    (folder / "titles.csv").write_text("item_id,item_2,title,title_2\n1,2,One,Two\n")
    (folder / "words.csv").write_text(
        "item_id,text,text_2\n1,one,two\n3,three,four\n4,five,six\n5,seven,eight\n"
    )
    (folder / "words-2.csv").write_text("item_id,text,text_2\n2,one,two\n")
    (folder / "facts.csv").write_text(
        'item_id,brand,marks,size,cost\n1,a,"u,v;w",1,7\n2,b,"u",2,1.250\n3,c,"v;x",3,8\n4,d,"w",5,9\n'
    )
    for name, item in (("pictures", 2), ("other-pictures", 1)):
        (folder / name).mkdir()
        (folder / name / f"{item}.png").write_bytes(PICTURES["png"])
    for name in ("image", "text"):
        vectors = [
            pa.array(rng.random((ITEMS, 2)).astype(np.float32).tolist(), pa.list_(pa.float32())) for _ in "12"
        ]
        ids = np.arange(ITEMS)
        table = {"item_id": ids, "item_2": ids[::-1], "vector": vectors[0], "vector_2": vectors[1]}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    pq.write_table(pa.table(table).slice(2), folder / "few.parquet")
