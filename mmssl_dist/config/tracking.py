"""The ``tracking`` section: trackers that a run reports to."""

from __future__ import annotations

from mmssl_dist.config.section import Section, Text


class Tracking(Section):
    """TensorBoard's event files are always written; a run reports to MLflow where it is named."""

    mlflow: Text | None = None
    """MLflow's tracking URI: a server (https://...), sqlite:///file or a folder; needs the extra
    ``tracking``."""
    experiment: Text = "mmssl-dist"
    """Name of the MLflow experiment that the run belongs to."""
    registered_model: Text | None = None
    """Name of a model in MLflow's registry: `run` makes the exported run a version of it."""
