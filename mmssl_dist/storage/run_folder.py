"""The folder of a run: every stage publishes one artifact, in a folder of its own below the job's output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.rules import STAGE_FOLDERS
from mmssl_dist.storage.location import Location
from mmssl_dist.storage.manifest import Manifest, read_manifest, require_manifest
from mmssl_dist.storage.opening import open_location

_STAGES = ("embed", "prepare", "partition", "train", "evaluate", "export")
_COMMANDS = dict(zip(STAGE_FOLDERS, _STAGES, strict=True))


@dataclass(frozen=True)
class StageFolder:
    """Where one stage publishes.

    Attributes:
        location: its folder.
        kind: the kind of its manifest; also the folder's name.
        command: the command that publishes it.
    """

    location: Location
    kind: str
    command: str

    def read(self) -> Manifest | None:
        """The published manifest, or None; raises as ``read_manifest``."""
        return read_manifest(self.location, self.kind)

    def require(self) -> Manifest:
        """The published manifest; raises as ``require_manifest``."""
        return require_manifest(self.location, self.kind, self.command)


@dataclass(frozen=True)
class RunFolder:
    """Everything below a job's output.

    Attributes:
        root: the output itself.
    """

    root: Location

    @classmethod
    def of(cls, job: Job) -> RunFolder:
        """The folder of ``job``."""
        return cls.at(job.output, job.storage)

    @classmethod
    def at(cls, url: str, storage: Storage) -> RunFolder:
        """The folder of another run, by the output of its job."""
        return cls(open_location(url, storage))

    @property
    def job_file(self) -> Location:
        """The job with every default written out."""
        return self.root / "job.yaml"

    @property
    def embeddings(self) -> StageFolder:
        """Vectors of raw content, by modality."""
        return self.stage("embeddings")

    @property
    def dataset(self) -> StageFolder:
        """Ids, interactions and features by number."""
        return self.stage("dataset")

    @property
    def partitions(self) -> StageFolder:
        """The graph and propagated features, by partition."""
        return self.stage("partitions")

    @property
    def training(self) -> StageFolder:
        """Checkpoints."""
        return self.stage("training")

    @property
    def evaluation(self) -> StageFolder:
        """Metrics."""
        return self.stage("evaluation")

    @property
    def export(self) -> StageFolder:
        """Embeddings and lists in external ids."""
        return self.stage("export")

    def stage(self, kind: str) -> StageFolder:
        """The folder of the stage that publishes an artifact of ``kind``."""
        return StageFolder(self.root / kind, kind, _COMMANDS[kind])

    def stages(self) -> Iterator[StageFolder]:
        """The folders of all stages, in order."""
        return map(self.stage, STAGE_FOLDERS)
