"""What embedding asks of Ray and of an encoder: one that notes what it is given, and needs no files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.readers.raw_content import ContentSource
from mmssl_dist.embedding.column_summaries import joined_summaries, summaries_of_json, summary_rows
from mmssl_dist.embedding.embed import actor_options
from mmssl_dist.embedding.inputs import embeddings_fingerprint, encoder_of
from mmssl_dist.embedding.shards import ShardEmbedder, ShardTask, content_rows, pack_items
from mmssl_dist.embedding.table_fit import TableFit, fitted
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location
from tests.end_to_end.data_probes import job_with_files


def embedded(folder: Path, sets: Sequence[str]) -> object:
    """The fingerprint, what Ray is asked for, the actor's threads and batches, and what is left out."""
    job = job_with_files(folder, sets)
    raw = find_files(job)
    ((modality, _),) = raw.content.items()
    source = open_sources(job.data, raw).features[modality]
    assert isinstance(source, ContentSource)
    settings = job.data.modalities[modality]
    task = ShardTask(
        job=job,
        modality=modality,
        source=source,
        encoder=None if settings.features else encoder_of(job, modality),
        weights="",
        target=open_location(str(folder / "embeddings"), job.storage),
        folder=modality,
        earlier=None,
        gpu=False,
        fit=_fit(job, modality, source) if settings.features else None,
    )
    sizes: list[int] = []

    def encoder(items: Sequence[Any]) -> np.ndarray:
        sizes.append(len(items))
        return np.ones((len(items), 2), np.float32)

    (rows,) = content_rows(pa.table({"id": [0]}), source, 1)
    shards = ShardEmbedder(task)
    shards._encoder = encoder  # in place of the one it would load when it is first asked for
    try:
        table, facts = shards.embedded_rows(pack_items(rows, source))
        result: object = (table.to_pydict(), facts)
    except InputError as error:
        result = str(error)
    options = actor_options(job.embedding, 1)
    asked = {**options, "compute": options["compute"].max_size}
    return embeddings_fingerprint(job, raw), asked, sizes, result


def _fit(job: Job, modality: str, source: ContentSource) -> TableFit:
    """How the columns of features become vectors; the stage makes it with Ray Data."""
    settings = job.data.modalities[modality]
    rows = (
        text
        for number in range(len(source.pieces))
        for table in summary_rows(pa.table({"id": [number]}), source)
        for text in table["summaries"].to_pylist()
    )
    return fitted(modality, settings, joined_summaries(map(summaries_of_json, rows), settings))
