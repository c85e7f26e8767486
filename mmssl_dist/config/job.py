"""A whole job: every setting valid alone, and all of them together."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from mmssl_dist.config.dependent_defaults import with_dependent_defaults
from mmssl_dist.config.rules import disagreements
from mmssl_dist.config.tree import JobSections


class Job(JobSections):
    """A whole job."""

    @property
    def samples_on_device(self) -> bool:
        """Whether the settings alone say that neighbours are drawn on the device that trains
        (``training.sampler``)."""
        if self.training.sampler == "auto":
            return self.scaling.gpus_per_worker > 0
        return self.training.sampler == "device"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        job = with_dependent_defaults(self)
        if problems := tuple(disagreements(job)):
            # In the error's context too, so that whoever catches it has the paths and not only their text.
            text = "\n".join(f"{problem.path}: {problem.text}" for problem in problems)
            raise PydanticCustomError("disagreement", "{text}", {"text": text, "found": problems})
        return job
