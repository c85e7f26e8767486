"""The order of stages, what is skipped, what is refused; with stages that only publish."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import Job, load_job
from mmssl_dist.data import files as data_files
from mmssl_dist.data.files import RawFiles, find_files
from mmssl_dist.errors import ArtifactError, InputError, WorkerError
from mmssl_dist.launch import preflight
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.preflight import resolved
from mmssl_dist.pipeline import engine
from mmssl_dist.pipeline import stages as stage_table
from mmssl_dist.pipeline.engine import Stage
from mmssl_dist.pipeline.stages import run_all, run_stage
from mmssl_dist.storage import Manifest, RunFolder, begin, fingerprint, open_location, publish
from tests.jobs import make_job

if TYPE_CHECKING:
    from mmssl_dist.cluster.connection import Cluster

FACTS = {
    "dataset": {
        "users": 1,
        "items": 1,
        "interactions": {},
        "modalities": {},
        "user_id_type": "int64",
        "item_id_type": "int64",
    },
    "training": {"checkpoint": "run"},
}


class Stages:
    """prepare depends on data and seed, train on it and on the model; both note when they run, and can
    fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failing: str | None = None
        self.connected = 0
        self.hashed: list[str] = []
        self.cluster = LazyCluster(self.connect)
        keys = {"prepare": lambda job: [job.data.path, job.seed], "train": lambda job: job.model.dimension}
        prepare = self._stage(
            command="prepare",
            publishes="dataset",
            reads=(),
            source=lambda pipeline: pipeline.raw_files,
            key=keys["prepare"],
        )
        train = self._stage(
            command="train",
            publishes="training",
            reads=("dataset",),
            source=lambda pipeline: pipeline.published(prepare),
            key=keys["train"],
        )
        self.all = (prepare, train)

    def _stage(self, command, publishes, reads, source, key):
        return Stage(
            command=command,
            publishes=publishes,
            reads=reads,
            source=source,
            fingerprint=self._fingerprint(key),
            run=self._run(command, publishes, key),
            summary=self._summary,
        )

    def _summary(self, job: object, facts: object) -> list[str]:
        return ["done", "nothing more"]

    def connect(self) -> object:
        self.connected += 1
        return self

    def run_tasks(self, function, arguments):
        self.hashed += [location.url.rsplit("/", 1)[1] for location, _ in arguments]
        return [function(*call) for call in arguments]

    def _fingerprint(self, key):
        return lambda job, source: fingerprint(
            key(job), source.fingerprint if isinstance(source, Manifest) else None
        )

    def _run(self, name, kind, key):
        def run(cluster, job, source):
            self.ran.append(name)
            location = open_location(job.output, job.storage) / kind
            begin(location)
            record = (location / "run/data").write_bytes(b"x")
            if self.failing == name:
                raise WorkerError("lost")
            manifest = Manifest(kind, self._fingerprint(key)(job, source), FACTS[kind], {"run/data": record})
            publish(location, manifest)
            return manifest

        return run


@pytest.fixture
def stages(monkeypatch):
    fakes = Stages()
    monkeypatch.setattr(stage_table, "STAGES", fakes.all)
    monkeypatch.setattr(
        engine, "check_data", lambda job: RawFiles(interactions=(), features={}, titles=(), images=())
    )
    monkeypatch.setattr(engine, "check_headers", lambda job, files: None)
    monkeypatch.setattr(engine, "_SMALL_BYTES", 0)  # as if they were large: hashed by tasks
    return fakes


@pytest.fixture
def job_for(tmp_path):
    return lambda *overrides: make_job(f"output={tmp_path}/out", *overrides)


def _ran(stages, function, *arguments, **options):
    stages.ran.clear()
    function(*arguments, stages.cluster, **options)
    return stages.ran


def test_only_what_is_out_of_date_runs(stages, job_for):
    assert _ran(stages, run_all, job_for()) == ["prepare", "train"]
    before = stages.connected
    assert _ran(stages, run_all, job_for()) == []
    assert stages.connected == before  # nothing to do needs no Ray
    assert _ran(stages, run_all, job_for("model.dimension=32")) == ["train"]
    assert _ran(stages, run_all, job_for("model.dimension=32", "seed=1")) == ["prepare", "train"]
    assert _ran(stages, run_all, job_for("model.dimension=32", "seed=1"), force=True) == ["prepare", "train"]


def test_what_is_small_is_hashed_without_a_task(monkeypatch, stages, job_for, tmp_path):
    monkeypatch.setattr(engine, "_SMALL_BYTES", 1)  # the size of the file of each artifact
    run_stage("prepare", job_for(), stages.cluster)
    run_stage("train", job_for(), stages.cluster)
    assert stages.hashed == []
    (tmp_path / "out/dataset/run/data").write_bytes(b"y")
    with pytest.raises(ArtifactError, match="content differs from its manifest"):
        run_stage("train", job_for("model.dimension=32"), stages.cluster)


def test_a_command_hashes_what_it_reads_unless_it_wrote_that(stages, job_for):
    run_all(job_for(), stages.cluster)
    assert stages.hashed == []
    run_all(job_for("model.dimension=32"), stages.cluster)
    assert stages.hashed == ["dataset"]


def test_failed_stage_publishes_nothing_and_is_the_one_to_run_next(stages, job_for, tmp_path):
    stages.failing = "train"
    with pytest.raises(WorkerError):
        run_all(job_for(), stages.cluster)
    assert (tmp_path / "out/training/run/data").exists()
    assert not (tmp_path / "out/training/manifest.json").exists()
    stages.failing = None
    assert _ran(stages, run_all, job_for()) == ["train"]


def test_failure_of_a_stage_run_again_unpublishes_the_old_artifact(stages, job_for, tmp_path):
    run_all(job_for(), stages.cluster)
    stages.failing = "train"
    with pytest.raises(WorkerError):
        run_all(job_for("model.dimension=32"), stages.cluster)
    assert not (tmp_path / "out/training/manifest.json").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"y"), "dataset/run/data: content differs from its manifest"),
        (lambda path: path.write_bytes(b""), "dataset/run/data: 0 bytes, where its manifest says 1"),
        (lambda path: path.unlink(), "dataset/run/data: gone, though its manifest names it"),
    ],
    ids=["flipped", "truncated", "gone"],
)
def test_what_a_stage_reads_is_checked_before_anything_is_removed(stages, job_for, tmp_path, damage, message):
    run_all(job_for(), stages.cluster)
    damage(tmp_path / "out/dataset/run/data")
    with pytest.raises(ArtifactError, match=message):
        run_stage("train", job_for("model.dimension=32"), stages.cluster)
    assert (tmp_path / "out/training/manifest.json").exists()
    assert stages.ran == ["prepare", "train"]


def test_single_stage_needs_its_predecessor_up_to_date(stages, job_for):
    with pytest.raises(InputError, match="Run `mmssl-dist prepare`"):
        run_stage("train", job_for(), stages.cluster)
    assert _ran(stages, run_stage, "prepare", job_for()) == ["prepare"]
    assert _ran(stages, run_stage, "train", job_for()) == ["train"]
    assert _ran(stages, run_stage, "train", job_for()) == []
    assert _ran(stages, run_stage, "train", job_for(), force=True) == ["train"]
    with pytest.raises(InputError, match=r"other settings or inputs.*Run `mmssl-dist prepare`"):
        run_stage("train", job_for("seed=1"), stages.cluster)


def test_resolved_job_is_written_and_means_the_same(stages, job_for, tmp_path):
    job = resolved(job_for("training.fanout=[5, 3]", "training.dense.learning_rate=1e-3"))
    run_all(job, stages.cluster)
    assert load_job(tmp_path / "out" / "job.yaml") == job


def test_progress_lines(stages, job_for, caplog):
    with caplog.at_level("INFO", "mmssl_dist"):
        run_all(job_for(), stages.cluster)
        run_all(job_for(), stages.cluster)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "prepare: started"
    assert lines[1] == "prepare: connecting to Ray"
    assert lines[2].startswith("prepare: done (")
    assert lines[3] == "prepare:   nothing more"
    assert lines[7].startswith("prepare: up to date, ")
    assert len(lines) == 9


def test_real_stages_read_what_earlier_ones_publish():
    assert [(stage.command, stage.publishes, stage.reads) for stage in stage_table.STAGES] == [
        ("prepare", "dataset", ()),
        ("partition", "partitions", ("dataset",)),
        ("train", "training", ("partitions",)),
        ("evaluate", "evaluation", ("partitions", "training")),
        ("export", "export", ("partitions", "training")),
    ]


def test_raw_files_are_listed_once_in_a_run(job_for, tmp_path, monkeypatch):
    """All that ``prepare`` and its fingerprint need of the raw files comes from one listing."""
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(pa.table({"user_id": [1, 2], "item_id": [0, 1]}), raw / "interactions.parquet")
    np.save(raw / "image.npy", np.zeros((2, 3), np.float32))
    job = job_for(f"data.path={raw}")
    listings: list[Job] = []

    def find_and_count(job: Job) -> RawFiles:
        listings.append(job)
        return find_files(job)

    def publish_nothing(cluster: LazyCluster, job: Job, files: RawFiles) -> Manifest:
        location = RunFolder.of(job).dataset.location
        manifest = Manifest("dataset", stage_table.PREPARE.fingerprint(job, files), FACTS["dataset"], {})
        publish(location, manifest)
        return manifest

    prepare = replace(stage_table.PREPARE, run=publish_nothing, summary=lambda job, facts: ["done"])
    monkeypatch.setattr(preflight, "find_files", find_and_count)
    monkeypatch.setattr(data_files, "find_files", find_and_count)
    monkeypatch.setattr(stage_table, "STAGES", (prepare,))
    cluster = LazyCluster(lambda: cast("Cluster", None))
    run_all(job, cluster)
    assert len(listings) == 1
    run_all(job, cluster)  # skipped
    assert len(listings) == 2
