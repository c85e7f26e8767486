"""A dataset from and to the layout of RecBole and MMRec: an ``.inter`` file, and ``.npy`` features by item
number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mmssl_dist.config import parse_job
from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM, ITEM_ID, SPLIT, SPLITS, USER, USER_ID, VECTOR
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.delimited import header
from mmssl_dist.data.readers.text import bare
from mmssl_dist.errors import InputError
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.storage import Location, RunFolder, downloads_folder

_INTER = ("userID", "itemID", "x_label")
_FEATURES = "_feat.npy"


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        lacking: by modality, items without it, which have rows of zeros.
    """

    users: int
    items: int
    interactions: int
    lacking: dict[str, int]


def write_mmrec(output: Location, target: Location, name: str) -> Converted:
    """Write the dataset below a job's ``output`` in MMRec's layout.

    NAME.inter (userID, itemID, x_label: 0 train, 1 validation, 2 test), a matrix MODALITY_feat.npy of each
    modality, and u_id_mapping.csv and i_id_mapping.csv (tab-separated) with your ids. The .inter file is
    written last.

    Raises:
        InputError: there is no dataset, or the target holds something.
    """
    dataset = RunFolder(output).dataset
    folder, manifest = dataset.location, dataset.require()
    _require_new(target)
    reader, facts = DatasetReader(folder, manifest, downloads_folder()), manifest.facts
    for side, external, index, file in (("users", USER_ID, USER, "u"), ("items", ITEM_ID, ITEM, "i")):
        table = reader.ids(side, external, index)
        numbered = zip(table[external].to_pylist(), table[index].to_pylist(), strict=True)
        (target / f"{file}_id_mapping.csv").write_bytes(_tabbed([(external, f"{side[:-1]}ID"), *numbered]))
    lacking = {}
    for modality in facts["modalities"]:
        rows = np.zeros((facts["items"], reader.dimension(modality) + 1), np.float32)
        reader.features(modality, rows)
        lacking[modality] = int((rows[:, -1] == 0).sum())
        (target / f"{modality}{_FEATURES}").write_array(rows[:, :-1])
    lines = [_tabbed([_INTER])]
    for code, split in enumerate(SPLITS):
        users, items = reader.interactions(split)
        order = np.lexsort((items, users))
        lines.append(
            _tabbed(zip(users[order].tolist(), items[order].tolist(), [code] * len(users), strict=True))
        )
    (target / f"{name}.inter").write_bytes(b"".join(lines))
    return Converted(facts["users"], facts["items"], sum(facts["interactions"].values()), lacking)


def read_mmrec(source: Location, target: Location) -> Converted:
    """Write the ``.inter`` and ``.npy`` files in ``source`` as tables: interactions.parquet and
    MODALITY.parquet.

    Features are the matrices NAME.npy or NAME_feat.npy, row r belonging to item r. job.yaml, a job that reads
    it all, is written last; its split is given where the file has x_label.

    Raises:
        InputError: there are no such files, one cannot be used, or the target holds something.
    """
    job, given = _job_of(source)
    _require_new(target)
    files = find_files(job)
    sources = open_sources(job.data, files)
    interactions, features = sources.interactions, sources.features
    users, items = (
        pa.chunked_array(_ids(interactions, name), kind).unique()
        for name, kind in ((USER_ID, interactions.user_type), (ITEM_ID, interactions.item_type))
    )
    count = _write(target / "interactions.parquet", _interactions(interactions))
    for name, source_of in features.items():
        _write(target / f"{name}.parquet", _features(source_of))
    written = {
        "output": "run",
        "data": {
            "path": target.url,
            "columns": {"split": SPLIT} if given else {},
            "modalities": {name: {"file": f"{name}.parquet"} for name in features},
            "split": {"method": "given" if given else "ratio"},
        },
    }
    (target / "job.yaml").write_bytes(yaml.safe_dump(written, sort_keys=False).encode())
    return Converted(len(users), len(items), count, {})


def _job_of(source: Location) -> tuple[Job, bool]:
    """A job that reads ``source``, and whether its split is given."""
    names = [source.relative(info) for info in source.files()]
    matrices = [name for name in names if name.endswith(".npy") and "/" not in name]
    inter = [name for name in names if name.endswith(".inter") and "/" not in name]
    if len(inter) != 1 or not matrices:
        raise InputError(
            source.url,
            f"{len(inter)} .inter and {len(matrices)} .npy files",
            "MMRec's layout is one .inter file and a .npy file for each modality",
            "Name the folder that holds them.",
        )
    modalities = {PurePosixPath(name).stem.removesuffix("_feat"): {"file": name} for name in matrices}
    tree = {"output": "unused", "data": {"path": source.url, "layout": "inter", "modalities": modalities}}
    storage = {"storage": (source.storage or Storage()).model_dump(mode="json")}
    columns = [bare(name) for name in header(find_files(parse_job({**tree, **storage})).interactions[0])]
    given = "x_label" in columns
    return parse_job({**tree, **storage}, [f"data.split.method={'given' if given else 'ratio'}"]), given


def _interactions(source: InteractionSource) -> Iterator[pa.Table]:
    for piece in source.pieces:
        for table in source.read(piece):
            yield table.select([name for name in (USER_ID, ITEM_ID, SPLIT) if name in table.column_names])


def _ids(source: InteractionSource, name: str) -> list[pa.Array]:
    return [table[name].unique() for table in _interactions(source)]


def _features(source: FeatureSource) -> Iterator[pa.Table]:
    for piece in source.pieces:
        for batch in source.read(piece):
            values = pa.array(np.ascontiguousarray(batch.vectors).reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(values, batch.vectors.shape[1])
            yield pa.table({ITEM_ID: batch.items, VECTOR: vectors})


def _write(target: Location, tables: Iterator[pa.Table]) -> int:
    """Write ``tables``, all of one schema, as one Parquet file; returns the rows."""
    sink, count = pa.BufferOutputStream(), 0
    writer: pq.ParquetWriter | None = None
    for table in tables:
        writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
        writer.write_table(table)
        count += table.num_rows
    assert writer is not None, "readers refuse files without rows"
    writer.close()
    target.write_bytes(sink.getvalue())
    return count


def _tabbed(rows: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def _require_new(target: Location) -> None:
    if target.exists() and (not target.is_folder() or target.files()):
        raise InputError("FOLDER", target.url, "the folder must be new or empty", "Name another one.")
