"""The run of a training in MLflow, in a file store and in sqlite."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

import mmssl_dist
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import Manifest, open_location, publish
from mmssl_dist.tracking.description import commit_of
from mmssl_dist.tracking.identity import start_over
from mmssl_dist.tracking.mlflow import MlflowRun, end_mlflow
from tests.jobs import make_job

METRICS = {
    "validation": {"recall@20": 0.4},
    "test": {"recall@20": 0.3},
    "baselines": {"popularity": {"test": {"recall@20": 0.1}}},
    "without": {"image": {"test": {"recall@20": 0.2}}},
}


@pytest.mark.parametrize("store", ["sqlite:///{}/runs.db", "{}/runs"])
def test_a_training_is_a_run_also_when_it_is_resumed(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    dataset = Manifest("dataset", "0f" * 16, {}, {})
    publish(open_location(str(tmp_path / "out/dataset"), Storage()), dataset)
    uri = store.format(tmp_path)
    job = make_job(
        f"output={tmp_path}/out",
        f"tracking.mlflow={uri}",
        "tracking.experiment=mine",
        "storage.endpoint=https://me:secret@store",
        "seed=7",
        "data.modalities.facts.table=items.csv",
        "data.modalities.facts.features={Price (EUR): number}",
    )
    (tmp_path / "out/job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    (tmp_path / "out/report.html").write_text("report.html")
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
    history = client.get_metric_history(run.info.run_id, "validation/recall_at_20")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2)]
    final = {name: value for name, value in run.data.metrics.items() if name.startswith("final/test/")}
    assert final == {
        "final/test/recall_at_20": 0.3,
        "final/test/popularity/recall_at_20": 0.1,
        "final/test/without_image/recall_at_20": 0.2,
    }
    assert run.data.tags["mmssl.version"] == mmssl_dist.__version__
    assert run.data.tags["mmssl.data"] == dataset.fingerprint
    assert run.data.params["data.modalities.facts.features"] == '{"Price (EUR)": "number"}'
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == ["job.yaml", "report.html"]
    sent = Path(client.download_artifacts(run.info.run_id, "job.yaml", str(tmp_path))).read_text()
    assert yaml.safe_load(sent)["storage"]["endpoint"] == "https://store"
    assert "secret" not in sent


def test_a_training_that_is_started_over_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs.db"
    job = make_job(f"output={tmp_path}/out", f"tracking.mlflow={uri}", "tracking.experiment=mine")
    MlflowRun(job, "run-1").epoch(1, {"recall@20": 0.1})
    start_over(job, "run-1")
    MlflowRun(job, "run-1").epoch(1, {"recall@20": 0.3})
    MlflowRun(job, "run-1").epoch(2, {"recall@20": 0.4})  # resumed
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    values = [
        [metric.value for metric in client.get_metric_history(run.info.run_id, "validation/recall_at_20")]
        for run in runs
    ]
    assert sorted(values) == [[0.1], [0.3, 0.4]]


def test_a_server_that_is_not_there_is_warned_of(caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    end_mlflow(make_job("tracking.mlflow=http://127.0.0.1:1"), "run-1", METRICS)
    (record,) = caplog.records
    assert record.message.startswith("MLflow: the end of this run was not recorded")


def test_the_commit_of_a_checkout(tmp_path):
    assert commit_of(tmp_path) is None
    git, commit = tmp_path / ".git", "ab" * 20
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'cd' * 20} refs/heads/other\n{commit} refs/heads/main\n")
    assert commit_of(tmp_path) == commit
    (git / "refs/heads/main").write_text(f"{commit[::-1]}\n")
    assert commit_of(tmp_path) == commit[::-1]
    (git / "HEAD").write_text(f"{commit}\n")
    assert commit_of(tmp_path) == commit
