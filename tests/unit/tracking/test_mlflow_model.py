"""The exported run in MLflow's registry, in a file store and in sqlite, loaded and asked by MLflow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient, pyfunc
from mlflow.artifacts import download_artifacts

import mmssl_dist
from mmssl_dist.errors import InputError
from mmssl_dist.serving.run import open_run
from mmssl_dist.tracking.mlflow import MlflowRun, end_mlflow
from tests.exported import export_run, publish_run

METRICS = {"test": {"recall@20": 0.3}}


@pytest.mark.parametrize("store", ["sqlite:///{}/runs.db", "{}/runs"])
def test_the_export_is_a_model_that_recommends(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = publish_run(tmp_path / "out")
    for name in ("job.yaml", "report.html"):
        (tmp_path / "out" / name).write_text(name)
    uri = store.format(tmp_path)
    tracking = exported.job.tracking.model_copy(update={"mlflow": uri, "registered_model": "shop"})
    job = exported.job.model_copy(update={"tracking": tracking})
    for _ in range(2):  # the second run has nothing to do
        end_mlflow(job, "run-1", METRICS)
    client = MlflowClient(uri)
    (version,) = client.search_model_versions("name = 'shop'")
    (run,) = client.search_runs([client.get_experiment_by_name("mmssl-dist").experiment_id])
    assert (version.run_id, run.info.status) == (run.info.run_id, "FINISHED")

    # By itself: what the run was made in may be gone
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    model = pyfunc.load_model("models:/shop/1")
    ours = open_run(str(tmp_path / "elsewhere"))
    users = pd.DataFrame({"user_id": ["u3", "u1", "u3"]}, index=[7, 8, 9])
    answers = model.predict(users)
    assert answers.index.tolist() == [7, 8, 9]
    assert answers.columns.tolist() == ["user_id", "items", "scores"]
    for user, items, scores in answers.itertuples(index=False):
        assert items == ours.recommend(user).items
        assert scores == pytest.approx(ours.recommend(user).scores.tolist())
    few = model.predict(users, params={"k": 3, "exclude_seen": False})
    assert few["items"][8] == ours.recommend("u1", k=3, exclude_seen=False).items
    assert model.predict(users.iloc[:0]).empty
    with pytest.raises(InputError, match="user id: found 'nobody'"):
        model.predict(pd.DataFrame({"user_id": ["nobody"]}))
    assert model.metadata.get_input_schema().input_names() == ["user_id"]
    files = Path(download_artifacts("models:/shop/1", dst_path=str(tmp_path / "files")))
    assert f"mmssl-dist=={mmssl_dist.__version__}" in (files / "requirements.txt").read_text().split()
    assert not [path for path in files.rglob("*") if path.suffix in (".pkl", ".pickle", ".py")]
    assert not (files / "data/run/export/recommendations").exists()
    assert (
        open_run(str(files / "data/run")).recommend_new([103], k=4).items
        == ours.recommend_new([103], k=4).items
    )

    # Another export is another version
    (tmp_path / "elsewhere").rename(tmp_path / "out")
    export = job.export.model_copy(update={"k": 7})
    export_run(job.model_copy(update={"export": export}))
    end_mlflow(job, "run-1", METRICS)
    assert sorted(version.version for version in client.search_model_versions("name = 'shop'")) == [1, 2]


def test_a_model_that_cannot_be_read_is_warned_of_and_the_run_stays_open(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = publish_run(tmp_path / "out")
    for name in ("job.yaml", "report.html"):
        (tmp_path / "out" / name).write_text(name)
    uri = f"sqlite:///{tmp_path}/runs.db"
    tracking = exported.job.tracking.model_copy(update={"mlflow": uri, "registered_model": "shop"})
    job = exported.job.model_copy(update={"tracking": tracking})
    (tmp_path / "out/export/index/items.faiss").write_bytes(b"nothing")
    end_mlflow(job, "run-1", METRICS)
    assert "MLflow: the end of this run was not recorded" in caplog.text
    client = MlflowClient(uri)
    assert list(client.search_model_versions("name = 'shop'")) == []
    (run,) = client.search_runs([client.get_experiment_by_name("mmssl-dist").experiment_id])
    assert run.info.status == "RUNNING"
    assert MlflowRun(job, "run-1").id == run.info.run_id
