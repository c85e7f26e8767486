"""A dataset from and to the layout of RecBole and MMRec: an ``.inter`` file, and ``.npy`` features by item
number."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mmssl_dist.config import parse_job
from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM, ITEM_ID, SPLIT, SPLITS, TIME, USER, USER_ID, VECTOR
from mmssl_dist.data.files import find_files
from mmssl_dist.data.ids import id_values, one_array
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.delimited import header
from mmssl_dist.data.readers.numbered import holds_objects
from mmssl_dist.data.readers.open import INTER_NAMES, inter_names
from mmssl_dist.data.readers.text import TextInteractions, bare, named_blocks
from mmssl_dist.data.readers.times import TimeFormat
from mmssl_dist.data.split_labels import with_labelled_split
from mmssl_dist.errors import InputError
from mmssl_dist.graph.source import DatasetReader
from mmssl_dist.storage import Location, RunFolder, downloads_folder

_INTER = ("userID", "itemID", "x_label")
_FEATURES = "_feat.npy"


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """What was written, and what was not.

    Attributes:
        lacking: by modality, items without it, which have rows of zeros.
        left_out: columns of the ``.inter`` file that the tables do not have.
        skipped: ``.npy`` files that are not features.
    """

    users: int
    items: int
    interactions: int
    lacking: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """Files in MMRec's layout: a job that reads them, and what it does not read."""

    job: Job
    left_out: tuple[str, ...]
    skipped: tuple[str, ...]


def write_mmrec(output: Location, target: Location, name: str) -> ConversionResult:
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
    reader, facts = (
        DatasetReader(location=folder, manifest=manifest, cache=downloads_folder()),
        manifest.facts,
    )
    for side, external, index, file in (("users", USER_ID, USER, "u"), ("items", ITEM_ID, ITEM, "i")):
        table = reader.ids_in_order(side, external, index)
        numbered = zip(id_values(one_array(table[external])), table[index].to_pylist(), strict=True)
        (target / f"{file}_id_mapping.csv").write_bytes(_tabbed([(external, f"{side[:-1]}ID"), *numbered]))
    lacking = {}
    for modality in facts["modalities"]:
        # One more column marks the items that have the modality: a vector of zeros may be a feature too.
        rows = np.zeros((facts["items"], reader.dimension(modality) + 1), np.float32)
        for having, vectors in reader.features(modality):
            rows[having, :-1], rows[having, -1] = vectors, 1.0
        lacking[modality] = int((rows[:, -1] == 0).sum())
        (target / f"{modality}{_FEATURES}").write_array(rows[:, :-1])
    lines = [_tabbed([_INTER])]
    for code, split in enumerate(SPLITS):
        users, items = reader.interactions(split)
        # Sorted, so that the file does not depend on how rows are spread over the dataset's files.
        order = np.lexsort((items, users))
        lines.append(
            _tabbed(zip(users[order].tolist(), items[order].tolist(), [code] * len(users), strict=True))
        )
    (target / f"{name}.inter").write_bytes(b"".join(lines))
    return ConversionResult(
        users=facts["users"],
        items=facts["items"],
        interactions=sum(facts["interactions"].values()),
        lacking=lacking,
    )


def read_mmrec(source: Location, target: Location) -> ConversionResult:
    """Write the ``.inter`` and ``.npy`` files in ``source`` as tables: interactions.parquet and
    MODALITY.parquet.

    Features are the matrices NAME_feat.npy, or NAME.npy where there is none of those, row r belonging to item
    r. Interactions keep their times and labels. job.yaml, a job that reads it all, is written last; its split
    is given where the file has x_label.

    Raises:
        InputError: there are no such files, one cannot be used, or the target holds something.
    """
    folder = _folder(source)
    _require_new(target)
    data = folder.job.data
    sources = open_sources(data, find_files(folder.job))
    interactions, features = sources.interactions, sources.features
    assert isinstance(interactions, TextInteractions)
    users, items = (
        pa.chunked_array(_ids(interactions, name), id_type).unique()
        for name, id_type in ((USER_ID, interactions.user_type), (ITEM_ID, interactions.item_type))
    )
    count = _write(target / "interactions.parquet", _interactions(interactions))
    for name, source_of in features.items():
        _write(target / f"{name}.parquet", _features(source_of))
    written = {
        "output": "run",
        "data": {
            "path": target.url,
            "columns": {name: name for name in (TIME, SPLIT) if name in interactions.names},
            "modalities": {name: {"file": f"{name}.parquet"} for name in features},
            "split": {"method": data.split.method},
        },
    }
    (target / "job.yaml").write_bytes(yaml.safe_dump(written, sort_keys=False).encode())
    return ConversionResult(
        users=len(users) - users.null_count,
        items=len(items) - items.null_count,
        interactions=count,
        left_out=folder.left_out,
        skipped=folder.skipped,
    )


def _folder(source: Location) -> _Folder:
    """What is in ``source``; raises an InputError unless it is one .inter file with .npy files."""
    names = [source.relative(info) for info in source.files()]
    arrays = [name for name in names if name.endswith(".npy") and "/" not in name]
    inter = [name for name in names if name.endswith(".inter") and "/" not in name]
    matrices = [name for name in arrays if name.endswith(_FEATURES)]
    # Other .npy files are features only where none has the suffix; arrays of objects are pickles.
    matrices = matrices or [name for name in arrays if not holds_objects(source / name)]
    if len(inter) != 1 or not matrices:
        raise InputError(
            source.url,
            f"{len(inter)} .inter and {len(arrays)} .npy files",
            "MMRec's layout is one .inter file and a .npy file for each modality",
            "Name the folder that holds them.",
        )
    modalities = {PurePosixPath(name).stem.removesuffix("_feat"): {"file": name} for name in matrices}
    tree = {
        "output": "unused",  # required, but nothing is published
        "data": {"path": source.url, "layout": "inter", "modalities": modalities},
        "storage": (source.storage or Storage()).model_dump(mode="json"),
    }
    job = parse_job(tree)
    interactions = find_files(job).interactions
    columns = [bare(name) for name in header(interactions[0])]
    time = next((name for name in INTER_NAMES[TIME] if name in columns), None)
    job = with_labelled_split(
        parse_job(tree, [] if time is None else [f"data.columns.time={time}"]), interactions
    )
    used = inter_names(job.data, interactions[0]).values()
    return _Folder(
        job=job,
        left_out=tuple(name for name in columns if name not in used),
        skipped=tuple(name for name in arrays if name not in matrices),
    )


def _interactions(source: TextInteractions) -> Iterator[pa.Table]:
    """Ids, splits and times; numbers keep their value, and dates their text."""
    for piece in source.pieces:
        texts: Iterator[pa.Array | None] = itertools.repeat(None)
        file = source.files[piece.file]
        if source.times is not None and source.times.kind == "moment":
            texts = (block[TIME] for block in named_blocks(file, source.names, source.null_values))
        # Not strict, since ``repeat`` never ends.
        for table, times in zip(source.read(piece), texts, strict=False):
            kept = table.select([name for name in (USER_ID, ITEM_ID, SPLIT) if name in table.column_names])
            if source.times is not None:
                kept = kept.append_column(
                    TIME, _numbers(table[TIME], source.times) if times is None else times
                )
            yield kept


def _numbers(times: pa.ChunkedArray, form: TimeFormat) -> pa.Array:
    """The numbers as the file has them, of times in the smallest unit that any of them has."""
    if not form.decimals:
        return one_array(times)
    # 19 digits hold every int64. Below, the same digits get the point that the file has.
    whole = one_array(times.cast(pa.decimal128(19, 0)))
    return pa.Array.from_buffers(pa.decimal128(38, form.decimals), len(whole), whole.buffers())


def _ids(source: InteractionSource, name: str) -> list[pa.Array]:
    return [table[name].unique() for piece in source.pieces for table in source.read(piece)]


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
