"""The exported run in MLflow's registry, in a file store and in sqlite, loaded and asked by MLflow."""

from __future__ import annotations

import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient, pyfunc
from mlflow.artifacts import download_artifacts

import mmssl_dist
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.pyfunc import plain_id
from mmssl_dist.serving.run import open_run
from mmssl_dist.tracking.mlflow import end_mlflow
from tests.exported import dataset_items, export_run, publish_run, write_uploads
from tests.jobs import training_job
from tests.training import ITEMS, USERS, publish_graph

METRICS = {"test": {"recall@20": 0.3}}


@pytest.mark.parametrize("store", ["sqlite:///{}/runs.db", "{}/runs"])
def test_the_export_is_a_model_that_recommends(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = publish_run(tmp_path / "out")
    write_uploads(exported.job)
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


@pytest.mark.parametrize("exclude", ["known", "training"])
def test_a_model_leaves_out_what_its_export_does(tmp_path, exclude, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    exported = publish_run(tmp_path / "out", f"export.exclude={exclude}")
    job = _registering(exported.job, f"sqlite:///{tmp_path}/runs.db")
    end_mlflow(job, "run-1", METRICS)
    assert "was not registered" not in caplog.text
    train, *held_out = (dataset_items(tmp_path / "out", split) for split in ("train", "validation", "test"))
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(job.tracking.mlflow))
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", str(job.tracking.mlflow))
    users = pd.DataFrame({"user_id": list(train)})
    answers = pyfunc.load_model("models:/shop/1").predict(users, params={"k": ITEMS})
    listed = dict(zip(answers["user_id"], map(set, answers["items"]), strict=True))
    assert not any(listed[user] & train[user] for user in train)
    wanted = [(user, item) for split in held_out for user, items in split.items() for item in items]
    assert sum(item in listed[user] for user, item in wanted) == (len(wanted) if exclude == "training" else 0)


def test_a_model_that_cannot_be_read_is_warned_of_and_the_run_ends(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = _registering(publish_run(tmp_path / "out").job, f"sqlite:///{tmp_path}/runs.db")
    index = tmp_path / "out/export/index/items.faiss"
    whole = index.read_bytes()
    index.write_bytes(b"nothing")
    client = MlflowClient(job.tracking.mlflow)
    for _ in range(2):
        end_mlflow(job, "run-1", METRICS)
        assert "MLflow: the model was not registered" in caplog.text
        assert "the end of this run was not recorded" not in caplog.text
        caplog.clear()
        experiment = client.get_experiment_by_name("mmssl-dist").experiment_id
        assert list(client.search_model_versions("name = 'shop'")) == []
        assert list(client.search_logged_models([experiment])) == []
        (run,) = client.search_runs([experiment])
        assert run.info.status == "FINISHED"
    # The next attempt, with the file back, registers it in the same run
    index.write_bytes(whole)
    end_mlflow(job, "run-1", METRICS)
    (version,) = client.search_model_versions("name = 'shop'")
    assert version.run_id == run.info.run_id


def test_uuids_are_given_and_answered_as_texts(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    job = training_job(
        folder, 2, 1, "model.modality_graph.size=0", "losses.contrastive.weight=0", "partition.method=random"
    )
    users = [uuid.UUID(int=n + 1) for n in range(USERS)]
    publish_graph(job, users=_of_uuids(users), items=_of_uuids([uuid.UUID(int=n + 9) for n in range(ITEMS)]))
    job = _registering(export_run(job).job, f"sqlite:///{tmp_path}/runs.db")
    end_mlflow(job, "run-1", METRICS)
    assert "was not re" not in caplog.text  # registered or recorded
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(job.tracking.mlflow))
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", str(job.tracking.mlflow))
    model = pyfunc.load_model("models:/shop/1")
    (answer,) = model.predict(pd.DataFrame({"user_id": [str(users[3])]})).itertuples(index=False)
    assert answer.user_id == str(users[3])
    assert answer.items == [str(item) for item in open_run(str(folder)).recommend(users[3]).items]
    example = model.metadata.load_input_example(download_artifacts("models:/shop/1"))
    assert example["user_id"].tolist()[0] in {str(user) for user in users}


@pytest.mark.parametrize(
    ("value", "text"), [(True, "True"), (7, 7), (uuid.UUID(int=7), str(uuid.UUID(int=7))), ("7", "7")]
)
def test_ids_are_whole_numbers_or_texts(value, text):
    plain = plain_id(value)
    assert (plain, type(plain)) == (text, type(text))
    array = _of_uuids([value]) if isinstance(value, uuid.UUID) else pa.array([value])
    assert Ids(array, "user").position(plain) == 0


def _of_uuids(values: list[uuid.UUID]) -> pa.Array:
    return pa.array([value.bytes for value in values], pa.binary(16))


def _registering(job: Job, uri: str) -> Job:
    """``job`` with a model in the registry at ``uri``, and the files that the end of a run uploads."""
    write_uploads(job)
    tracking = job.tracking.model_copy(update={"mlflow": uri, "registered_model": "shop"})
    return job.model_copy(update={"tracking": tracking})
