"""One bucket of a modality's items to one Parquet file: what an earlier run embedded is taken over, the rest
goes through the encoder."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import bucket_count
from mmssl_dist.data.columns import BUCKET, FILE, ITEM_ID, ROW, VECTOR
from mmssl_dist.data.files import PARQUET_SUFFIXES
from mmssl_dist.data.ids import buckets_of, scalar_text
from mmssl_dist.data.packed_rows import pack, unpack
from mmssl_dist.data.readers.base import row_location
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.readers.tabular import values_of
from mmssl_dist.data.row_operations import TaskFailure
from mmssl_dist.data.write import bucket_of, part, write_table
from mmssl_dist.embedding.pictures import LARGEST_BYTES, UNREADABLE, decode
from mmssl_dist.embedding.table_fit import Occurrences, TableFit, joined_occurrences
from mmssl_dist.embedding.weights import EncoderSource, encoder_folder
from mmssl_dist.errors import InputError, MmsslError
from mmssl_dist.storage import Location

if TYPE_CHECKING:  # in functions: it brings torch, which only processes of the pool need
    from mmssl_dist.embedding.encoders import Encoder

T = TypeVar("T")
CONTENT = "content"
DIGEST = "content_sha256"
LEFT_OUT = "left_out"
EMPTY, ABSENT, OUTSIDE = "empty text", "no picture", "picture outside data.path"
VALUELESS = "no value in any column"
EXAMPLES = 5
SHARD = pa.schema(
    [("name", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string()), ("facts", pa.string())]
)
_ROWS = "rows"
_FACTS = b"mmssl"
_READERS = 8
_TABLE_ROWS = 4096  # of columns of features at once


@dataclass(frozen=True)
class Earlier:
    """What the artifact before has of a modality: names of its files, one for each of ``buckets``."""

    location: Location
    files: tuple[str, ...]
    buckets: int

    def with_items_of(self, bucket: int, buckets: int) -> Iterator[Location]:
        """The files that may have items which are in ``bucket`` of ``buckets``."""
        # An item's bucket is its hash modulo the number of buckets, so two buckets share items if they are
        # equal modulo every common divisor.
        divisor = math.gcd(self.buckets, buckets)
        for name in self.files:
            if (bucket_of(name) - bucket) % divisor == 0:
                yield self.location / name


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """How the buckets of one modality are embedded.

    Attributes:
        job: the job.
        source: its content.
        encoder: which one; ``revision`` is a commit of the hub. weights: hash of its files.
        fit: instead of an encoder, how columns of features become vectors.
        target: folder of the artifact. folder: of the modality's files below it.
        earlier: what may be taken over.
        gpu: the actor has a GPU.
    """

    job: Job
    modality: str
    source: ContentSource
    encoder: EncoderSource | None
    weights: str
    target: Location
    folder: str
    earlier: Earlier | None
    gpu: bool
    fit: TableFit | None = None


def pack_items(batch: pa.Table, source: ContentSource) -> pa.Table:
    """One packed row of a bucket's content, sorted by id.

    Raises:
        InputError: an item has two contents; names both rows.
    """
    bucket = batch[BUCKET][0].as_py()
    batch = batch.drop_columns([BUCKET]).sort_by(
        [(ITEM_ID, "ascending"), (FILE, "ascending"), (ROW, "ascending")]
    )
    ids, content = batch[ITEM_ID].combine_chunks(), batch[CONTENT].combine_chunks()
    same = np.append(False, pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
    kept = list[int]()
    for row, repeated in enumerate(same.tolist()):
        if repeated and content[kept[-1]].is_valid and content[row].is_valid:
            raise _twice(batch, kept[-1], row, source)
        if repeated and content[row].is_valid:
            kept[-1] = row  # the row before has nothing
        elif not repeated:
            kept.append(row)
    return pack(bucket, {}, {_ROWS: batch.take(kept).select([ITEM_ID, CONTENT])})


def _twice(batch: pa.Table, first: int, second: int, source: ContentSource) -> InputError:
    locate = partial(row_location, source.files)
    places = []
    for row in (first, second):
        file = batch[FILE][row].as_py()
        text = source.content.tables and not source.files[file].location.path.endswith(PARQUET_SUFFIXES)
        unit = "line" if text else "row"
        places.append(locate(file, unit, batch[ROW][row].as_py()))
    return InputError(
        places[1],
        f"item {scalar_text(batch[ITEM_ID][second])}, also in {places[0]}",
        "an item has one text, picture or row of features in a modality",
        "Remove one of the rows.",
    )


class ShardEmbedder:
    """An actor of the pool: writes the files of packed buckets; each row becomes one of ``SHARD``.

    The encoder is loaded when it is first needed, so that errors have a task to travel with.
    """

    def __init__(self, task: ShardTask) -> None:
        self.task = task

    def __call__(self, batch: pa.Table) -> pa.Table:
        """See the class.

        Raises:
            TaskFailure: carries the InputError of an encoder that cannot be loaded or has another dimension.
        """
        try:
            return pa.concat_tables([self._shard(batch.slice(row, 1)) for row in range(batch.num_rows)])
        except MmsslError as error:
            raise TaskFailure(error) from error

    def _shard(self, packed: pa.Table) -> pa.Table:
        name = part(self.task.folder, packed[BUCKET][0].as_py())
        finished = self._finished(name)
        if finished is not None:
            return finished
        table, facts = self.embedded_rows(packed)
        text = json.dumps(facts)
        # In the file, so that a start after an interruption knows what this one did.
        record = write_table(self.task.target, name, table.replace_schema_metadata({_FACTS: text}))
        return record.append_column("facts", pa.array([text])).cast(SHARD)

    def _finished(self, name: str) -> pa.Table | None:
        """The record of a file that an interrupted start has written; files appear whole or not at all."""
        location = self.task.target / name
        if not location.exists():
            return None
        schema = pq.read_schema(location.path, filesystem=location.filesystem)
        record = location.record()
        text = schema.metadata[_FACTS].decode()
        return pa.table([[name], [record.bytes], [record.sha256], [text]], schema=SHARD)

    def embedded_rows(self, packed: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
        """The file of one packed bucket, and counts of what became of its items."""
        rows, bucket = unpack(packed, _ROWS), packed[BUCKET][0].as_py()
        ids = rows[ITEM_ID].combine_chunks()
        taken = self._taken_over(ids, bucket)
        # One entry for each item; a vector that has to be made is None until its chunk is encoded.
        digests, reasons = list[str | None](), list[str | None]()
        vectors: list[np.ndarray | None] = []
        encoded = 0
        size = self.task.job.embedding.batch_size if self.task.fit is None else _TABLE_ROWS
        for chunk in _batched(self._contents(rows[CONTENT].to_pylist()), size):
            pending: list[tuple[int, Any]] = []
            for digest, content in chunk:
                row = len(vectors)
                earlier = taken.get((row, digest))
                # Decoded only now that the hash has shown that no earlier vector serves.
                if earlier is None and digest is not None:
                    content = self._opened(content)
                if earlier is None and not isinstance(content, _Reason):
                    pending.append((row, content))
                digests.append(digest)
                reasons.append(str(content) if isinstance(content, _Reason) else None)
                vectors.append(earlier)
            if pending:
                encoded += len(pending)
                made = self._encode([content for _, content in pending])
                for (row, _), vector in zip(pending, made, strict=True):
                    vectors[row] = vector
        facts = _counts(ids, reasons, vectors, encoded)
        if self.task.fit is not None:
            facts["occurrences"] = self._occurrences(ids, rows[CONTENT])
        columns = {
            ITEM_ID: ids,
            VECTOR: pa.array(vectors, pa.list_(pa.float32())),
            DIGEST: pa.array(digests, pa.string()),
            LEFT_OUT: pa.array(reasons, pa.string()),
        }
        return pa.table(columns), facts

    def _occurrences(self, ids: pa.Array, content: pa.ChunkedArray) -> Occurrences:
        """What is unusual of the features of items that have some, a few items at a time."""
        fit = self.task.fit
        assert fit is not None
        named = (
            (scalar_text(i), text.as_py()) for i, text in zip(ids, content, strict=True) if text.is_valid
        )
        parts = []
        for some in _batched(named, _TABLE_ROWS):
            items, texts = zip(*some, strict=True)
            parts.append(fit.occurrences(items, [values_of(text) for text in texts]))
        return joined_occurrences(parts)

    def _contents(self, content: Sequence[str | None]) -> Iterator[tuple[str | None, Any]]:
        """Hash and content of each item; or None and the reason why it has none."""
        if self.task.source.content.pictures is None:
            lacking = _Reason(EMPTY if self.task.fit is None else VALUELESS)
            for text in content:
                yield (None, lacking) if text is None else (_sha256(text.encode()), text)
            return
        # Reading waits for the storage more than it works; two batches at a time stay in memory.
        with ThreadPoolExecutor(_READERS) as pool:
            ahead = max(_READERS, self.task.job.embedding.batch_size)
            for names in _batched(content, ahead):
                for read in pool.map(self._read, names):
                    yield (None, read) if isinstance(read, _Reason) else (_sha256(read), read)

    def _read(self, name: str | None) -> bytes | _Reason:
        pictures = self.task.source.content.pictures
        assert pictures is not None
        size = None if name is None else self._sizes.get(name)
        if name is None or size is None:
            return _Reason(ABSENT)
        location = pictures.root / name
        if location.is_local and not pictures.root.holds(location):  # by a link
            return _Reason(OUTSIDE)
        if size > LARGEST_BYTES:
            return _Reason(UNREADABLE)
        return location.read_bytes()

    def _opened(self, content: Any) -> Any:
        """What the encoder takes, or the reason why it cannot be made."""
        if isinstance(content, str):
            return content
        picture = decode(content, self.task.job.embedding.max_pixels)
        return _Reason(picture) if isinstance(picture, str) else picture

    def _encode(self, contents: Sequence[Any]) -> np.ndarray:
        from mmssl_dist.embedding.encoders import encode

        task = self.task
        if task.fit is not None:
            return task.fit(contents)
        assert task.encoder is not None
        vectors = encode(self._encoder, contents, task.job.embedding.batch_size)
        require_job_dimension(task.job, task.modality, task.encoder.name, vectors.shape[1])
        if not np.isfinite(vectors).all():
            raise InputError(
                f"data.modalities.{task.modality}.encoder",
                f"{task.encoder.name}, which produced non-finite values",
                "features are finite numbers",
                "Choose another encoder.",
            )
        return vectors

    @cached_property
    def _encoder(self) -> Encoder:
        import torch

        from mmssl_dist.embedding.encoders import open_encoder

        task = self.task
        assert task.encoder is not None
        torch.set_num_threads(task.job.embedding.cpus_per_actor)
        # Ray shows an actor the GPU that it was given, and no other.
        device = torch.device("cuda" if task.gpu else "cpu")
        folder = encoder_folder(task.encoder, task.job.storage)
        if folder.weights != task.weights:
            raise InputError(
                task.encoder.key,
                f"{task.encoder.name}, which differs on {platform.node()}",
                "an encoder is the same on every machine",
                "Copy the folder again to every machine, or name one that all of them can read.",
            )
        return open_encoder(task.encoder, folder, task.source.content.pictures is not None, device)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        pictures = self.task.source.content.pictures
        assert pictures is not None
        listing = pictures.listing
        return dict(zip(listing["name"].to_pylist(), listing["size"].to_pylist(), strict=True))

    def _taken_over(self, ids: pa.Array, bucket: int) -> dict[tuple[int, str | None], np.ndarray]:
        """Vectors of the earlier artifact, by row in ``ids`` and hash of the content."""
        earlier, taken = self.task.earlier, dict[tuple[int, str | None], np.ndarray]()
        if earlier is None:
            return taken
        for location in earlier.with_items_of(bucket, bucket_count(self.task.job)):
            table = pq.read_table(
                location.path, filesystem=location.filesystem, columns=[ITEM_ID, VECTOR, DIGEST]
            )
            if table.schema.field(ITEM_ID).type != ids.type:  # ids of another type never match
                continue
            rows = pc.index_in(table[ITEM_ID].combine_chunks(), value_set=ids)
            table = table.filter(pc.and_(rows.is_valid(), table[VECTOR].combine_chunks().is_valid()))
            # Looked up twice, because the filter shifts the rows.
            rows = pc.index_in(table[ITEM_ID].combine_chunks(), value_set=ids).to_pylist()
            vectors = table[VECTOR].combine_chunks()
            width = len(vectors[0]) if len(vectors) else 0
            matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), width)
            taken |= zip(zip(rows, table[DIGEST].to_pylist(), strict=True), matrix, strict=True)
        return taken


def embedded_shards(batch: pa.Table, task: ShardTask) -> pa.Table:
    """What a ``ShardEmbedder`` makes of packed buckets, for tasks that load nothing."""
    return ShardEmbedder(task)(batch)


def require_job_dimension(job: Job, modality: str, encoder: str, width: int) -> None:
    """Raise an InputError unless vectors of ``width`` are what the job says of the modality."""
    wanted = job.data.modalities[modality].dimension
    if wanted is not None and width != wanted:
        raise InputError(
            f"data.modalities.{modality}.dimension",
            wanted,
            f"vectors of {encoder} have {width} values",
            "Change or remove the dimension, or choose another encoder.",
        )


def _counts(
    ids: pa.Array, reasons: Sequence[str | None], vectors: Sequence[np.ndarray | None], encoded: int
) -> dict[str, Any]:
    """How many items have a vector and how many do not for which reason, with the ids of a few."""
    named = [scalar_text(ids[row]) for row, reason in enumerate(reasons) if reason is not None]
    widths = {len(vector) for vector in vectors if vector is not None}
    # Also of vectors that were taken over: only those of an equal encoder are.
    assert len(widths) <= 1, "vectors of one encoder have one width"
    return {
        "items": sum(vector is not None for vector in vectors),
        "embedded": encoded,
        "left_out": dict(sorted(Counter(filter(None, reasons)).items())),
        "examples": named[:EXAMPLES],
        "dimension": max(widths, default=0),
    }


class _Reason(str):
    """Why an item has no vector."""


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``itertools.batched``, which Python 3.11 lacks."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_rows(batch: pa.Table, source: ContentSource, buckets: int) -> Iterator[pa.Table]:
    """The content of the pieces whose numbers are in ``batch``, bucketed by item."""
    for number in batch["id"].to_pylist():
        for read in source.read_content(source.pieces[number]):
            yield pa.table(
                {
                    ITEM_ID: read.items,
                    CONTENT: read.content.cast(pa.large_string()),  # a bucket's may exceed 2 GiB
                    FILE: pa.array(read.files),
                    ROW: pa.array(read.rows),
                    BUCKET: buckets_of(read.items, buckets),
                }
            )
