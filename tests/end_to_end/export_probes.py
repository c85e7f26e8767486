"""What the export's index is made with, read from the published file; and what the metrics are shown as."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

import faiss
import numpy as np
import pyarrow as pa

from mmssl_dist.config.model_name import model_name
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.export.index import build_index
from mmssl_dist.export.writers import write_list_blocks, write_safetensors, write_user_embeddings
from mmssl_dist.launch.list_table import list_table, write_list_table
from mmssl_dist.report.tables import show_metrics
from mmssl_dist.storage import Manifest, RunFolder, open_location
from tests.jobs import make_job
from tests.tasks import in_this_process


def table(folder: Path, sets: Sequence[str]) -> str:
    """What `evaluate` prints of the job's model."""
    stream = StringIO()
    show_metrics({"test": {"recall@20": 0.5}}, model_name(make_job(*sets, output=str(folder))), stream)
    return stream.getvalue()


def list_table_files(folder: Path, sets: Sequence[str]) -> object:
    """The folders and files that a table of lists has after it was written, and whether there is a log."""
    inside = Path(mkdtemp(dir=folder))
    job = make_job(*sets, output=str(inside / "run"))
    assert job.export.table is not None
    path = inside / job.export.table.path
    job = make_job(*sets, f"export.table.path={path}", output=str(inside / "run"))
    blocks = [(pa.array(["u"]), pa.array([1]), np.array([[True]]), np.ones((1, 1), np.float32))]
    name, record = write_list_blocks(
        RunFolder.of(job).export.location, 0, types=(pa.string(), pa.int64()), blocks=blocks
    )
    written_table = list_table(job, day="2026-11-30")
    assert written_table is not None
    write_list_table(job, Manifest("export", "", {}, {name: record}), written_table, in_this_process)
    written = {file.parent.relative_to(inside).as_posix() for file in inside.rglob("*.parquet")}
    return sorted(written - {"run/export/recommendations"}), (path / "_delta_log").exists()


def index(folder: Path, sets: Sequence[str]) -> object:
    """How the index of 300 items is built and searched, and with how many users it was compared."""
    settings = make_job(*sets, output=str(folder)).export.index
    export = open_location(mkdtemp(dir=folder), Storage())
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, 8)).astype(np.float32) for n in (40, 300))
    files = dict(
        [
            write_safetensors(export, 0, users, items),
            write_user_embeddings(export, 0, pa.array(range(40)), users),
        ]
    )
    _, facts, _ = build_index(export, files, settings)
    made = faiss.read_index(f"{export.path}/index/items.faiss")
    if isinstance(made, faiss.IndexHNSW):
        graph = made.hnsw
        links = graph.nb_neighbors(1)  # type: ignore[attr-defined]  # faiss's stubs leave it out
        return "hnsw", links, graph.efConstruction, graph.efSearch
    if isinstance(made, faiss.IndexIVF):
        return "ivf", made.nlist, made.nprobe
    return "flat", made.ntotal, facts["recall"]
