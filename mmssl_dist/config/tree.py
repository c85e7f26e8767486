"""The job: every setting of a run, with its unit and scope. Defaults are what the documents report on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mmssl_dist.config.data_sections import Data, Embedding, Partition
from mmssl_dist.config.model_sections import Losses, Model
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.config.search import Search
from mmssl_dist.config.section import Section, Text
from mmssl_dist.config.tracking import Tracking
from mmssl_dist.config.training_sections import Evaluation, Export, Training


class JobSections(Section):
    """Every setting of a job, each valid alone; ``config.job.Job`` also checks them against each other."""

    output: Text
    """Folder or URL of the run; each stage publishes below it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of initial weights and of every draw but those of the split (data.split.seed)."""
    data: Data
    """Raw files and split."""
    embedding: Embedding = Embedding()
    """Embedding raw content of items."""
    partition: Partition = Partition()
    """Cutting the graph."""
    model: Model = Model()
    """Model."""
    losses: Losses = Losses()
    """Losses."""
    training: Training = Training()
    """Training loop."""
    evaluation: Evaluation = Evaluation()
    """Ranking and metrics."""
    export: Export = Export()
    """Export."""
    scaling: Scaling = Scaling()
    """Workers."""
    storage: Storage = Storage()
    """Object storage."""
    search: Search = Search()
    """What `tune` tries."""
    tracking: Tracking = Tracking()
    """Where the run is reported besides its output."""
