"""What a run says of itself: its job, its metrics, its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.storage import RunFolder
from mmssl_dist.storage.run_job import read_run_job


class RunFacts:
    """Of an exported run.

    Attributes:
        export: its export artifact.
        folder: everything below the job's output.
    """

    export: Artifact
    folder: RunFolder

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the export's manifest says: sizes, the index and its recall."""
        return self.export.manifest.facts

    @property
    def job(self) -> Job:
        """The job that made the run, with every default.

        Raises:
            InputError: the output has no job.yaml.
        """
        return read_run_job(self.folder.root)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What ``evaluate`` published: split -> metric -> mean over users, of the model; the same under
        "baselines" by who ranked, and under "without" by modality that was left out.

        Raises:
            InputError: nothing is published.
        """
        return self.folder.evaluation.require().facts
