"""However a table is spread over files, formats and types, the dataset has the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config import Job
from mmssl_dist.data.files import find_files
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import numbered_rows
from mmssl_dist.data.prepare import dataset_facts, write_dataset
from mmssl_dist.data.readers import open_sources
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location
from tests.fuzz.amount import of_layouts
from tests.fuzz.generated_tables import folder
from tests.fuzz.layouts import tables, write_anyhow, write_plainly
from tests.jobs import raw_job

SMALL_BLOCK = 400  # bytes; the longest row is shorter, and most tables have several


def published(job: Job, target: Path) -> object:
    """The facts and the hash of every file of the dataset, or the rule and value of the refusal."""
    files = find_files(job)
    try:
        sources = open_sources(job.data, files)
        rows = numbered_rows(job, sources.interactions, sources.features, local_numbers)
    except InputError as error:
        return error.rule, error.value
    written = write_dataset(open_location(str(target), job.storage), rows, tuple(sources.features))
    facts = dataset_facts(job, sources.interactions, sources.features, rows)
    return facts, {name: record.sha256 for name, record in written.items()}


@of_layouts
@given(st.data())
def test_any_layout_gives_the_same_dataset(data: st.DataObject) -> None:
    table = data.draw(tables())
    settings: dict[str, Any] = {
        "columns": {"time": "at"},
        "split": {
            "method": data.draw(st.sampled_from(["leave_last_out", "temporal", "ratio"])),
            "validation": 0.3,
            "test": 0.3,
        },
        "min_interactions": data.draw(st.sampled_from([0, 2])),
        "buckets": data.draw(st.integers(1, 3)),
    }
    with folder() as path, pytest.MonkeyPatch.context() as patch:
        write_plainly(table, path / "raw")
        written = write_anyhow(data.draw, table, path / "raw")
        plain = raw_job(
            path, interactions="plain.parquet", modalities={"image": "plain-image.parquet"}, **settings
        )
        other = raw_job(path, interactions="events", modalities={"image": "image"}, **settings)
        wanted = published(plain, path / "plain")
        if data.draw(st.booleans()):
            patch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", SMALL_BLOCK)
        result = published(other, path / "other")
    assert result == wanted, written
