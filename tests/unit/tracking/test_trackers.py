"""Trackers receive what the history receives; one that fails is left out, and training continues."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location
from mmssl_dist.tracking import trackers
from mmssl_dist.tracking.description import parameters, shareable, without_password
from mmssl_dist.tracking.metric_names import final_metrics, tracked_name
from mmssl_dist.tracking.mlflow import check_mlflow, metric_name
from mmssl_dist.tracking.tensorboard import TensorBoard, end_tensorboard
from mmssl_dist.tracking.trackers import GAUGES, Prometheus, TrackingCallback
from tests.jobs import make_job
from tests.relays import Relay
from tests.servers import client, moto_server

ROOT = Path(__file__).parents[3]
ENTRY = {
    "epoch": 1.0,
    "loss/total": 0.5,
    "recall@20": 0.25,
    "rate/pairs": 1000.0,
    "share/waiting": 0.125,
    "train_seconds": 2.0,
}


def scalars(content: bytes) -> dict[tuple[str, int], float]:
    """By tag and step, what an event file holds: records of length, checksum, event, checksum."""
    result, at = {}, 0
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        result |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        at += 12 + length + 4
    return result


def tell(tracking: TrackingCallback, *entries: dict[str, float]) -> None:
    for entry in entries:
        tracking.after_report(None, [entry, {}], None)


EXPECTED = {
    ("loss/total", 1): 0.5,
    ("loss/total", 2): 0.25,
    ("validation/recall@20", 1): 0.25,
    ("validation/recall@20", 2): 0.5,
    ("rate/pairs", 1): 1000.0,
    ("share/waiting", 2): 0.125,
    ("progress/train_seconds", 1): 2.0,
}
SECOND = {**ENTRY, "epoch": 2.0, "loss/total": 0.25, "recall@20": 0.5}


def test_tensorboard_has_every_figure_by_epoch_also_of_a_resumed_run(tmp_path):
    job, relay = make_job(f"output={tmp_path}"), Relay()
    tell(
        TrackingCallback(job, "run-1", relay), ENTRY, {"epoch": 2.0, "step": 3.0, "recall@20": -float("inf")}
    )
    tell(TrackingCallback(job, "run-1", relay), SECOND)  # another controller
    result: dict[Any, float] = {}
    for path in sorted((tmp_path / "tensorboard/run-1").iterdir()):
        result |= scalars(path.read_bytes())
    assert EXPECTED.items() <= result.items()
    assert {step for _, step in result} <= {0, 1, 2}
    assert relay.lines == []


def test_event_files_are_those_of_tensorboardx(tmp_path):
    theirs = EventsWriter(str(tmp_path / "events"))
    event = Event(wall_time=1.0, step=3)
    theirs.write_event(event)
    theirs.close()
    (file,) = tmp_path.iterdir()
    TensorBoard(open_location(str(tmp_path / "ours"), Storage()))._append(event)
    (ours,) = (tmp_path / "ours").iterdir()
    name = re.compile(r"events\.out\.tfevents\.(?P<second>\d+)\.(?P<machine>.+)")
    first, second = name.fullmatch(file.name), name.fullmatch(ours.name)
    assert first
    assert second
    assert second["machine"].startswith(first["machine"])
    assert 0 <= int(second["second"]) - int(first["second"]) <= 60
    version = len(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString()) + 16
    assert ours.read_bytes()[version:] == file.read_bytes()[version:]  # the first differs by its time
    assert len(ours.read_bytes()) == len(file.read_bytes())


@pytest.mark.processes
def test_tensorboard_in_object_storage(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="runs")
        job = make_job(
            "output=s3://runs/a",
            f"storage.endpoint={endpoint}",
            "storage.region=us-east-1",
            "storage.path_style=true",
        )
        tell(TrackingCallback(job, "run-1", Relay()), ENTRY, SECOND)
        folder = open_location("s3://runs/a/tensorboard/run-1", job.storage)
        (file,) = folder.files()
        assert not list(tmp_path.iterdir())  # nothing stays on this machine
        assert EXPECTED.items() <= scalars((folder / folder.relative(file)).read_bytes()).items()


def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    relay = Relay()
    tracking = TrackingCallback(make_job(f"output={tmp_path}"), "run-1", relay)
    tell(tracking, ENTRY, SECOND)
    (line,) = relay.lines
    assert line.startswith("TensorBoard: receives no further reports of this training, which continues (")
    assert [tracker.name for tracker in tracking._trackers or ()] == ["Ray metrics"]


def test_gauges_are_set_with_run_and_label(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ray.util.metrics.Gauge.set",
        lambda gauge, value, tags: seen.append((gauge.info["name"], value, tags)),
    )
    Prometheus("out/run-1").epoch(3, {name: value for name, value in ENTRY.items() if name != "epoch"})
    run = {"run": "out/run-1"}
    assert sorted(seen, key=str) == sorted(
        [
            ("mmssl_epoch", 3.0, run),
            ("mmssl_loss", 0.5, run | {"term": "total"}),
            ("mmssl_validation", 0.25, run | {"metric": "recall@20"}),
            ("mmssl_pairs_per_second", 1000.0, run),
            ("mmssl_waiting_share", 0.125, run),
        ],
        key=str,
    )


def test_the_dashboard_shows_what_is_exported_and_all_of_it():
    text = (ROOT / "cluster/grafana.json").read_text()
    expressions = [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    exported = {f"ray_{name}": {"run", label} - {None} for name, label, _ in GAUGES.values()}
    plotted = {name for expression in expressions for name in re.findall(r"ray_\w+", expression)}
    assert plotted == set(exported)
    assert set(re.findall(r"ray_\w+", text)) == plotted
    for expression in expressions:
        ((labels, name),) = re.findall(r"by \(([^)]*)\) \((ray_\w+)", expression)
        assert set(labels.split(", ")) <= exported[name]


def test_mlflow_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_mlflow(make_job())
    with pytest.raises(
        InputError, match=r"tracking\.mlflow: found https://host/; .*mmssl-dist\[tracking\]"
    ) as caught:
        check_mlflow(make_job("tracking.mlflow=https://me:secret@host/"))
    assert "secret" not in str(caught.value)


def test_parameters_are_the_settings_without_passwords():
    result = dict(
        parameters(
            make_job(
                "storage.endpoint=https://me:secret@store",
                "tracking.mlflow=https://a:secret@b",
                "training.rows.learning_rate=0.01",
            )
        )
    )
    assert result["storage.endpoint"] == "https://store"
    assert result["training.rows.learning_rate"] == "0.01"
    assert result["data.modalities.image.file"]
    assert not any("secret" in value for value in result.values())
    assert not any(name.startswith("tracking") for name in result)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:secret@host/x", "https://host/x"),
        ("https://me:sec@ret@host/x", "https://host/x"),
        ("https://me:secret/w@host", "https://host"),
        ("https://me:1secret?#w@host:80/x", "https://host:80/x"),
        ("mysql+pymysql://me:secret@host/db", "mysql+pymysql://host/db"),
        ("https://me@host/x", "https://host/x"),
        ("http://host:8080/path@2", "http://host:8080/path@2"),
        ("hf://datasets/me/shop@main/x.csv", "hf://datasets/me/shop@main/x.csv"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("sqlite:///C:/runs@home.db", "sqlite:///C:/runs@home.db"),
        ("a@b: c//d@e", "a@b: c//d@e"),
    ],
)
def test_urls_without_passwords(url, expected):
    assert without_password(url) == expected


def test_a_job_file_that_can_be_shared():
    text = """
output: out
storage: {endpoint: "https://me:sec/r@et@store", region: null}
tracking: {mlflow: "https://host/?token=secret"}
data: {path: [a, "https://me:secret@b"]}
"""
    assert yaml.safe_load(shareable(text)) == {
        "output": "out",
        "storage": {"endpoint": "https://store", "region": None},
        "data": {"path": ["a", "https://b"]},
    }


def test_settings_by_names_that_a_tracker_refuses_are_one_parameter():
    sets = [
        "data.modalities.facts.table=items.csv",
        "data.modalities.facts.features={'Price (EUR)': number, 'Price [EUR]': number}",
        "data.modalities.plain.table=items.csv",
        "data.modalities.plain.features={price: number}",
    ]
    result = dict(parameters(make_job(*sets)))
    assert json.loads(result["data.modalities.facts.features"]) == {
        "Price (EUR)": "number",
        "Price [EUR]": "number",
    }
    assert result["data.modalities.plain.features.price"] == "number"


def test_the_controller_has_a_process_of_wandb_of_its_own(tmp_path, monkeypatch):
    inherited = []

    class Started:
        name = "W&B"

        def __init__(self, job: Any, run: str) -> None:
            inherited.append(os.environ.get("WANDB_SERVICE"))

    monkeypatch.setenv("WANDB_SERVICE", "3-1-tcp-localhost-1")
    monkeypatch.setattr(trackers, "WandbRun", Started)
    TrackingCallback(make_job(f"output={tmp_path}", "tracking.wandb=shop"), "run-1", Relay())._start()
    assert inherited == [None]


def test_names_in_the_words_of_the_trackers():
    assert metric_name("final/test/recall@20") == "final/test/recall_at_20"
    assert [tracked_name(name) for name in ("recall@20", "loss/bpr", "seconds/step/p50", "best_epoch")] == [
        "validation/recall@20",
        "loss/bpr",
        "seconds/step/p50",
        "progress/best_epoch",
    ]


FINAL = {
    "validation": {"recall@20": 0.5},
    "test": {"recall@20": 0.25},
    "cold": {"test": {"recall@20": 0.125}},
    "baselines": {"popularity": {"validation": {"recall@20": 0.0625}, "test": {"recall@20": 0.03125}}},
    "without": {"image": {"test": {"recall@20": 0.1875}}},
}


def test_final_metrics_name_who_ranked():
    assert final_metrics(FINAL) == {
        "final/validation/recall@20": 0.5,
        "final/validation/popularity/recall@20": 0.0625,
        "final/test/recall@20": 0.25,
        "final/test/cold/recall@20": 0.125,
        "final/test/popularity/recall@20": 0.03125,
        "final/test/without_image/recall@20": 0.1875,
    }


def test_tensorboard_gets_settings_and_final_metrics_once(tmp_path):
    job, folder = make_job(f"output={tmp_path}", "storage.endpoint=https://me:secret@store"), tmp_path
    for _ in range(2):  # the second run has nothing to do
        end_tensorboard(job, "run-1", FINAL)
    (file,) = (folder / "tensorboard/run-1").iterdir()
    content = file.read_bytes()
    assert {name: value for (name, _), value in scalars(content).items() if name in final_metrics(FINAL)} == (
        final_metrics(FINAL)
    )
    assert b"_hparams_/session_start_info" in content
    assert b"training.rows.learning_rate" in content
    assert b"secret" not in content
    end_tensorboard(job, "run-1", {**FINAL, "test": {"recall@20": 0.75}})
    assert len(list((folder / "tensorboard/run-1").iterdir())) == 2


def test_a_tensorboard_folder_that_cannot_be_written_is_warned_of(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    end_tensorboard(make_job(f"output={tmp_path}"), "run-1", FINAL)
    assert caplog.messages[0].startswith("TensorBoard: the end of this run was not recorded (")
