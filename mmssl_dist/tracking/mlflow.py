"""A training as a run of MLflow: its settings, metrics by epoch, final metrics, job.yaml and report.html."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.connection import describe
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.tracking.description import COMMIT, parameters, shared_files, tags, without_password
from mmssl_dist.tracking.identity import tracked_identity
from mmssl_dist.tracking.metric_names import final_metrics, tracked_name
from mmssl_dist.tracking.mlflow_model import register_model

_logger = logging.getLogger(__name__)

_TAG = "mmssl.run"
# Parameters that MLflow's servers take in one request.
_AT_ONCE = 100


def check_mlflow(job: Job) -> None:
    """Check that MLflow is installed, where the job names one.

    Raises:
        InputError: it isn't.
    """
    if job.tracking.mlflow and importlib.util.find_spec("mlflow") is None:
        raise InputError(
            "tracking.mlflow",
            without_password(job.tracking.mlflow),
            "MLflow must be installed for it",
            "Run `pip install 'mmssl-dist[tracking]'`, or remove the setting.",
        )


class MlflowRun:
    """The run of a training; one that is resumed continues in the same run.

    Args:
        run: name of the run's folder, which distinguishes trainings of one output.
    """

    name = "MLflow"

    def __init__(self, job: Job, run: str) -> None:
        from mlflow import MlflowClient

        assert job.tracking.mlflow is not None, "a job that names no MLflow has no run there"
        if "://" not in job.tracking.mlflow:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder was asked for by name
        self.client = MlflowClient(job.tracking.mlflow)
        self.id = self._find(job, tracked_identity(job, run))

    def _find(self, job: Job, identity: str) -> str:
        name = job.tracking.experiment
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        quoted = identity.replace("'", "\\'")
        # By a tag, since names of runs need not be unique and people change them.
        runs = self.client.search_runs([experiment], f"tags.`{_TAG}` = '{quoted}'", max_results=1)
        if runs:
            self.client.update_run(runs[0].info.run_id, status="RUNNING")
            return str(runs[0].info.run_id)
        # Parameters only once: MLflow refuses another value for a known name, and a resumed run has the same.
        made = self.client.create_run(experiment, run_name=Path(job.output).name, tags={_TAG: identity})
        self._log_params(made.info.run_id, dict(parameters(job)))
        return str(made.info.run_id)

    def _log_params(self, run: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in values.items()]
        # MLflow's servers limit how many parameters one request may have.
        for start in range(0, len(params), _AT_ONCE):
            self.client.log_batch(run, params=params[start : start + _AT_ONCE])

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Figures of a validated epoch."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(metric_name(tracked_name(name)), value, now, epoch) for name, value in figures.items()
        ]
        self.client.log_batch(self.id, metrics=metrics)

    def end(self, job: Job, metrics: Mapping[str, Any]) -> None:
        """The final metrics, the files of the output that a reader wants, and the model where the job names
        one; a model that is not registered is only warned of."""
        for name, value in final_metrics(metrics).items():
            self.client.log_metric(self.id, metric_name(name), value)
        for name, text in tags(job).items():
            self.client.set_tag(self.id, "mlflow.source.git.commit" if name == COMMIT else name, text)
        with tempfile.TemporaryDirectory(prefix="mmssl-mlflow-") as folder:
            for name, content in shared_files(job):
                (Path(folder) / name).write_bytes(content)
            self.client.log_artifacts(self.id, folder)
        if job.tracking.registered_model is not None:
            try:
                register_model(self.client, job, self.id)
            except Exception as error:  # noqa: BLE001, the run is done whatever the registry says
                _logger.warning("MLflow: the model was not registered (%s)", describe(error))
        # Last, so that a run that looks finished has its metrics and files.
        self.client.set_terminated(self.id)


def end_mlflow(job: Job, run: str, metrics: Mapping[str, Any]) -> None:
    """Close the run of a whole job, where it names an MLflow; a failure is only warned of."""
    if job.tracking.mlflow is None:
        return
    try:
        MlflowRun(job, run).end(job, metrics)
    except Exception as error:  # noqa: BLE001, the job is done whatever MLflow says
        _logger.warning("MLflow: the end of this run was not recorded (%s)", describe(error))


def metric_name(name: str) -> str:
    """``name`` in the letters that MLflow allows: recall@20 becomes recall_at_20."""
    return re.sub(r"[^\w\-./ ]", "_", name.replace("@", "_at_"))
