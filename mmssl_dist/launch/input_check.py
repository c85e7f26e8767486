"""What `validate` reads of the raw files, beyond their headers.

Small inputs are read whole, by prepare's own passes in this process. Of larger ones the first and the last
block of each file are read, which shows most mistakes and takes seconds. Compressed text has to be read
through for that, so of many large files of it the last ones are looked at where they begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config import Job
from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID
from mmssl_dist.data.files import RawFiles
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import dataset_facts, numbered_rows
from mmssl_dist.data.readers import FeatureSource, InteractionSource, Sources, open_sources
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.data.readers.times import TimeFormat, time_text
from mmssl_dist.data.row_operations import TaskFailure
from mmssl_dist.data.titles import read_titles
from mmssl_dist.embedding.column_summaries import joined_summaries, summaries_of_json, summary_rows
from mmssl_dist.embedding.inputs import tabular
from mmssl_dist.embedding.table_fit import TableFit, fitted
from mmssl_dist.errors import Problems
from mmssl_dist.graph.cut_method import require_nodes

WHOLE_BYTES = 1 << 26
"""Raw files of so many bytes in all are read whole."""


@dataclass(frozen=True, kw_only=True)
class ModalityOverview:
    """Features as far as they were read: values of a vector (0 where an encoder has yet to make it), and
    items that have one."""

    dimension: int
    items: int


@dataclass(frozen=True, kw_only=True)
class InputOverview:
    """What was seen of the raw files.

    Attributes:
        whole: all rows were read.
        left_out: files of which the last block was not read.
        facts: of the dataset that prepare will publish, empty unless ``whole``.
        interactions: rows read.
        user_id_type, item_id_type: types of the ids.
        times: the earliest and the latest time read; None where the job has no column of times.
        features: by modality.
        widths: values of a modality's vectors, where they are known: by the files, by the fit of all rows of
            columns of features, or by the job.
    """

    whole: bool
    left_out: int
    facts: dict[str, Any]
    interactions: int
    user_id_type: str
    item_id_type: str
    times: tuple[str, str] | None
    features: dict[str, ModalityOverview]
    widths: dict[str, int]


def read_whole(files: RawFiles) -> bool:
    """Whether all rows of ``files`` are read."""
    # Sizes on disk: compressed text may be ten times as large in memory, which still fits.
    return sum(file.size for file in files.of_dataset()) <= WHOLE_BYTES


def check_values(job: Job, files: RawFiles) -> InputOverview:
    """Read raw files whose headers are as they should be.

    Raises:
        InputError: a value cannot be used, or the values do not make a dataset; all problems of all files.
    """
    whole = read_whole(files)
    sources = open_sources(job.data, files, whole)
    problems = Problems()
    seen = _InputTotals()
    # File by file, so that one bad file does not hide the problems of the next.
    for number in range(len(sources.interactions.files)):
        problems.attempt(
            partial(_read_interactions, source=sources.interactions, file=number, whole=whole, seen=seen)
        )
    for modality, source in sources.features.items():
        for number in range(len(source.files)):
            problems.attempt(
                partial(_read_features, modality=modality, source=source, file=number, whole=whole, seen=seen)
            )
    if sum(file.size for file in files.titles) <= WHOLE_BYTES:
        problems.attempt(lambda: read_titles(job.data, files.titles, ()))
    problems.raise_all("data")
    # Else the earlier run's fit is taken over
    fits = _fits(job, sources) if whole and job.training.start_from is None else {}
    facts = _facts_of_dataset(job, sources) if whole else {}
    for modality in files.content:  # only the encoder knows
        if whole:
            facts["modalities"][modality]["dimension"] = 0
    return InputOverview(
        whole=whole,
        left_out=getattr(sources.interactions, "left_out", 0),  # text alone has such files
        facts=facts,
        interactions=seen.interactions,
        user_id_type=str(sources.interactions.user_type),
        item_id_type=str(sources.interactions.item_type),
        times=_time_range(sources.interactions, seen),
        features={
            modality: ModalityOverview(
                dimension=0 if modality in files.content else source.dimension,
                items=seen.vectors.get(modality, 0),
            )
            for modality, source in sources.features.items()
        },
        widths=known_widths(job, files, sources, fits),
    )


def known_widths(job: Job, files: RawFiles, sources: Sources, fits: Mapping[str, TableFit]) -> dict[str, int]:
    """Values of the vectors of each modality whose vectors are in the files, that has a fit, or of whose
    encoder the job says it."""
    widths = {}
    for modality, source in sources.features.items():
        stated = job.data.modalities[modality].dimension
        if modality not in files.content:
            widths[modality] = source.dimension
        elif modality in fits:
            widths[modality] = fits[modality].dimension
        elif stated is not None:
            widths[modality] = stated
    return widths


class _InputTotals:
    """Counts and bounds over what has been read."""

    def __init__(self) -> None:
        self.interactions = 0
        self.times: tuple[float, float] | None = None
        self.vectors: dict[str, int] = {}

    def add_interactions(self, table: pa.Table) -> None:
        self.interactions += table.num_rows
        if TIME not in table.column_names:
            return
        # Rows that lack an id have no time either, but a 0 in its place.
        live = table.filter(pc.and_(table[USER_ID].is_valid(), table[ITEM_ID].is_valid()))
        if live.num_rows:
            bounds = pc.min_max(live[TIME]).as_py()
            low, high = self.times or (bounds["min"], bounds["max"])
            self.times = min(low, bounds["min"]), max(high, bounds["max"])


def _time_range(source: InteractionSource, seen: _InputTotals) -> tuple[str, str] | None:
    times: TimeFormat | None = getattr(source, "times", None)  # the layout mmssl has none
    if times is None or seen.times is None:
        return None
    low, high = seen.times
    return time_text(low, times), time_text(high, times)


def _read_interactions(source: InteractionSource, file: int, whole: bool, seen: _InputTotals) -> None:
    for table in _blocks(source, file, whole):
        seen.add_interactions(table)


def _read_features(modality: str, source: FeatureSource, file: int, whole: bool, seen: _InputTotals) -> None:
    for batch in _blocks(source, file, whole):
        seen.vectors[modality] = seen.vectors.get(modality, 0) + len(np.asarray(batch.rows))


def _fits(job: Job, sources: Sources) -> dict[str, TableFit]:
    """Those of all modalities of columns, which ``embed`` will make; raises all InputErrors of ``fitted``."""
    problems = Problems()
    fits = {
        modality: problems.attempt(partial(_fit, job, modality, sources.features[modality]))
        for modality in tabular(job)
    }
    problems.raise_all("data")
    return {modality: fit for modality, fit in fits.items() if fit is not None}


def _fit(job: Job, modality: str, source: FeatureSource) -> TableFit:
    """Of one modality; raises as ``fitted``."""
    assert isinstance(source, ContentSource)
    settings = job.data.modalities[modality]
    texts = (
        text
        for rows in summary_rows(pa.table({"id": np.arange(len(source.pieces))}), source)
        for text in rows["summaries"].to_pylist()
    )
    summaries = joined_summaries(map(summaries_of_json, texts), settings)
    return fitted(f"data.modalities.{modality}", settings, summaries)


def _blocks(source: Any, file: int, whole: bool) -> Iterator[Any]:
    """What a source reads of one file: all, or the first block and the last piece."""
    pieces: list[Piece] = [piece for piece in source.pieces if piece.file == file]
    if whole:
        for piece in pieces:
            yield from source.read(piece)
        return
    last = [piece for piece in source.last_pieces if piece.file == file]
    if [piece.first for piece in last] != [0]:  # else the last piece has the first block
        for piece in pieces[:1]:
            yield from _first(source.read(piece))
    # The end of a file is where a write that was cut short shows.
    for piece in last:
        yield from source.read(piece)


def _first(blocks: Iterator[Any]) -> Iterator[Any]:
    for block in blocks:
        yield block
        return


def _facts_of_dataset(job: Job, sources: Sources) -> dict[str, Any]:
    try:
        rows = numbered_rows(job, sources.interactions, sources.features, local_numbers)
    except TaskFailure as failure:
        # In a task of Ray Data the wrapper survives pickling; here nothing has to travel.
        raise failure.cause from failure
    facts = dataset_facts(job, sources.interactions, sources.features, rows)
    require_nodes(job.partition.parts, facts["users"], facts["items"])
    return facts
