"""Brings stages up to date. A stage runs if nothing published matches its inputs, and only on inputs that
match theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import yaml

from mmssl_dist.config import Job
from mmssl_dist.data.files import RawFiles
from mmssl_dist.data.split_labels import with_labelled_split
from mmssl_dist.errors import InputError
from mmssl_dist.graph.installed_dgl import check_dgl
from mmssl_dist.launch.artifact_facts import require_facts
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.preflight import check_data, check_headers, check_output
from mmssl_dist.report.live import begins, ends
from mmssl_dist.report.progress import Facts, skipped_line, stage_lines
from mmssl_dist.storage import Manifest, RunFolder, StageFolder, in_shares, require_intact, require_whole
from mmssl_dist.storage.run_lock import writing_alone
from mmssl_dist.tracking.mlflow import check_mlflow
from mmssl_dist.tracking.wandb import check_wandb

_logger = logging.getLogger(__name__)

Source = TypeVar("Source", RawFiles, Manifest)
_SMALL_BYTES = 32 << 20  # read and hashed here in less time than a task takes to start


def _nothing(job: Job, source: object) -> None:
    """Of a stage that has nothing to check, or nothing to discard."""


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[Source]):
    """One step of the pipeline.

    Attributes:
        command: the command that runs it alone.
        publishes: kind of the artifact it publishes.
        reads: kinds of all artifacts it reads.
        source: what it is made from, current from the raw files on: the raw files, or an artifact.
        fingerprint: of what it would publish.
        run: does the work and publishes.
        summary: a few lines about the artifact, from the job and the manifest's facts.
        check: refuses a job that could not be finished, once Ray is connected and before anything is removed.
        discard: removes what the stage would resume from, when it is to start over.
    """

    command: str
    publishes: str
    reads: tuple[str, ...]
    source: Callable[[Pipeline], Source]
    fingerprint: Callable[[Job, Source], str]
    run: Callable[[LazyCluster, Job, Source], Manifest]
    summary: Callable[[Job, Facts], list[str]]
    check: Callable[[Job, Source], None] = _nothing
    discard: Callable[[Job, Source], None] = _nothing


class Pipeline:
    """The stages of one job. Raw files are listed once, and every artifact is looked up or made once.

    Args:
        cluster: connects to Ray when a stage has work to do.
    """

    def __init__(self, job: Job, cluster: LazyCluster) -> None:
        self.job, self.cluster, self.folder = job, cluster, RunFolder.of(job)
        # Looked up once a command: on object storage each look is a request, and nothing changes meanwhile.
        self._current: dict[str, Manifest] = {}
        self._intact: dict[str, Manifest] = {}  # by kind, what this command has written or hashed already

    @cached_property
    def raw_files(self) -> RawFiles:
        """Listed and checked; raises as ``check_data``. The job's split is settled with them."""
        files = check_data(self.job)
        self.job = with_labelled_split(self.job, files.interactions)
        return files

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Check the output, and write job.yaml there; until its end no other command writes to the output.

        Raises:
            InputError: the output cannot be written, or another command writes to it, a tracker is not
                installed or has no API key, or a setting needs DGL and it is not installed.
        """
        # Before the first stage, which may take hours: neither depends on what it does.
        check_dgl(self.job)
        check_mlflow(self.job)
        check_wandb(self.job)
        check_output(self.job)
        # With every default written out: a later version may have others.
        text = yaml.safe_dump(self.job.model_dump(mode="json"), sort_keys=False)
        with writing_alone(self.folder.root):
            self.folder.job_file.write_bytes(text.encode())
            yield

    def published(self, stage: Stage[Any]) -> Manifest:
        """The artifact of ``stage``, if it is current from the raw files on.

        Raises:
            InputError: nothing is published, or something made from other settings or inputs.
        """
        if stage.command in self._current:
            return self._current[stage.command]
        source = stage.source(self)
        folder = self.folder.stage(stage.publishes)
        manifest = require_facts(folder.location, folder.require())
        # Only compared, never made here: a stage must not start the ones before it behind the user's back.
        if manifest.fingerprint != stage.fingerprint(self.job, source):
            raise InputError(
                folder.location.url,
                f"the {stage.publishes} of other settings or inputs",
                "a stage reads what its own job's stages published",
                f"Run `mmssl-dist {stage.command}` on this job.",
            )
        self._current[stage.command] = manifest
        return manifest

    def bring_up_to_date(self, stage: Stage[Any], force: bool = False) -> Manifest:
        """The artifact of ``stage``, made if it is not current.

        Raises:
            InputError: a stage before it has published nothing, or something made from other inputs; says
                what to run.
            MmsslError: the stage failed; nothing of it is published.
        """
        source = stage.source(self)
        manifest = None if force else self._skipped(stage, source)
        if manifest is None:
            manifest = self._made(stage, source, force)
        self._current[stage.command] = manifest
        return manifest

    def check_artifacts(self, *folders: StageFolder) -> None:
        """Check every file of published artifacts: sizes first, then hashes, once per command; those of large
        artifacts in as many tasks as the job has workers.

        Raises:
            ArtifactError: one is not what its manifest says.
        """
        artifacts = [(folder.location, folder.require()) for folder in folders]
        for location, manifest in artifacts:
            # All sizes first: they cost one listing, and a missing file is known before any Ray is started.
            require_whole(location, manifest)
        for location, manifest in artifacts:
            if self._intact.get(manifest.kind) == manifest:
                continue
            if sum(record.bytes for record in manifest.files.values()) <= _SMALL_BYTES:
                require_intact(location, manifest)
            else:
                shares = in_shares(manifest, self.job.scaling.fewest)
                self.cluster.run_tasks(require_intact, [(location, share) for share in shares])
            self._intact[manifest.kind] = manifest

    def _skipped(self, stage: Stage[Any], source: RawFiles | Manifest) -> Manifest | None:
        folder = self.folder.stage(stage.publishes)
        manifest = folder.read()
        if manifest is None or manifest.fingerprint != stage.fingerprint(self.job, source):
            return None
        _logger.info(skipped_line(stage.command, folder.location.url))
        # A manifest of an older version may lack a fact that a later stage reads.
        return require_facts(folder.location, manifest)

    def _made(self, stage: Stage[Any], source: RawFiles | Manifest, force: bool) -> Manifest:
        _logger.info("%s: started", stage.command, extra=begins(stage.command))
        started = time.monotonic()
        # Headers only where there is work: for a stage that is current, listing the files is enough.
        if isinstance(source, RawFiles):
            check_headers(self.job, source)
        self.cluster.announce(stage.command)
        self.check_artifacts(*map(self.folder.stage, stage.reads))
        # Before anything is removed: a cluster that does not answer must not cost what is published
        self.cluster.connect()
        # With Ray connected, since what fits depends on the machines it has.
        stage.check(self.job, source)
        if force:
            stage.discard(self.job, source)
        manifest = stage.run(self.cluster, self.job, source)
        self._intact[manifest.kind] = manifest
        log_end(stage.command, stage.summary(self.job, manifest.facts), started)
        return manifest


def log_end(command: str, summary: list[str], started: float) -> None:
    """Log what a stage that ``started`` then (``time.monotonic``) has published."""
    first, *details = stage_lines(command, summary, time.monotonic() - started)
    _logger.info(first, extra=ends(command))
    for line in details:
        _logger.info(line)
