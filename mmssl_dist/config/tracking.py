"""The ``tracking`` section: trackers that are told how a run goes."""

from __future__ import annotations

from mmssl_dist.config.section import Section, Text


class Tracking(Section):
    """TensorBoard's event files are always written; MLflow is told where it is named."""

    mlflow: Text | None = None
    """MLflow's tracking URI: a server (https://...), sqlite:///file or a folder; needs the extra
    ``tracking``."""
    experiment: Text = "mmssl-dist"
    """Name of the MLflow experiment that the run belongs to."""
