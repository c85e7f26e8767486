"""What a run says of itself: its job, its metrics, its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mmssl_dist.config.job import Job
from mmssl_dist.config.training_sections import Excluded
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.storage import RunFolder
from mmssl_dist.storage.run_job import read_run_job


def excluded_by(facts: Mapping[str, Any]) -> Excluded:
    """What the lists of an export leave out, by its manifest's ``facts``."""
    # Earlier versions left out training items alone, and did not say so.
    return cast(Excluded, facts.get("lists", {}).get("exclude", "training"))


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
    def exclude(self) -> Excluded:
        """What ``exclude_seen`` leaves out, as ``export.exclude`` was when the run was exported."""
        return excluded_by(self.facts)

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
