"""The run of a training in MLflow, in a file store and in sqlite."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from mmssl_dist.tracking.mlflow import MlflowRun, end_mlflow
from tests.jobs import make_job

METRICS = {"validation": {"recall@20": 0.4}, "test": {"recall@20": 0.3}, "baselines": {}}


@pytest.mark.parametrize("store", ["sqlite:///{}/runs.db", "{}/runs"])
def test_a_training_is_a_run_also_when_it_is_resumed(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("job.yaml", "report.html"):
        (tmp_path / "out" / name).write_text(name)
    uri = store.format(tmp_path)
    job = make_job(
        f"output={tmp_path}/out",
        f"tracking.mlflow={uri}",
        "tracking.experiment=mine",
        "storage.endpoint=https://me:secret@store",
        "seed=7",
    )
    MlflowRun(job, "run-1").epoch(1, {"loss/total": 0.5, "recall@20": 0.1})
    MlflowRun(job, "run-1").epoch(2, {"loss/total": 0.25, "recall@20": 0.2})  # resumed
    MlflowRun(job, "run-2").epoch(1, {"recall@20": 0.3})  # another training
    end_mlflow(job, "run-1", METRICS)
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert len(runs) == 2
    (run,) = [run for run in runs if run.data.tags["mmssl.run"].endswith("/run-1")]
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7"
    assert run.data.params["storage.endpoint"] == "https://store"
    assert not any("secret" in value for value in run.data.params.values())
    history = client.get_metric_history(run.info.run_id, "recall_at_20")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2)]
    assert run.data.metrics["final/test/recall_at_20"] == 0.3
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == ["job.yaml", "report.html"]


def test_a_server_that_is_not_there_is_warned_of(caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    end_mlflow(make_job("tracking.mlflow=http://127.0.0.1:1"), "run-1", METRICS)
    (record,) = caplog.records
    assert record.message.startswith("MLflow: the end of this run was not recorded")
