"""The run of a training in Weights & Biases: offline for real, online where no server answers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.proto.wandb_internal_pb2 import Record

import mmssl_dist
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.launch.train_stage import identify
from mmssl_dist.storage import Manifest, RunFolder, open_location, publish
from mmssl_dist.tracking import wandb as tracker
from mmssl_dist.tracking.identity import start_over
from mmssl_dist.tracking.trackers import TrackingCallback
from mmssl_dist.tracking.wandb import check_wandb, end_wandb
from tests.jobs import make_job

KEY = "0123456789abcdef0123456789abcdef01234567"
HISTORY = [
    {"epoch": 1.0, "loss/total": 0.5, "recall@20": 0.125, "checkpoint_score": 0.125},
    {"epoch": 2.0, "loss/total": 0.25, "recall@20": 0.25, "checkpoint_score": 0.25},
]
METRICS = {
    "test": {"recall@20": 0.25},
    "baselines": {"popularity": {"test": {"recall@20": 0.125}}},
    "without": {"image": {"test": {"recall@20": 0.1875}}},
}
_BLOCK = 32768  # bytes of a block of LevelDB's log format, whose records W&B's files hold


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def records(path: Path) -> Iterator[Record]:
    """What an offline run holds: records of checksum, length, type, content, cut at the ends of blocks."""
    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        length, part = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if at + 7 + length > len(content):
            return  # its end is not written yet
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or last
            yield Record.FromString(whole)
            whole = b""


def whole_run(path: Path) -> list[Record]:
    """The records of a run that has ended: W&B's process writes its last block after it says so."""
    end = time.monotonic() + 120
    written: list[Record] = []
    while not any(record.HasField("exit") for record in written):
        assert time.monotonic() < end, "the run has no end"
        time.sleep(0.05)
        written = list(records(path))
    return written


def items(entries: Any) -> dict[str, Any]:
    return {entry.key or ".".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


def offline_job(folder: Path, *sets: str) -> Any:
    dataset = Manifest("dataset", "0f" * 16, {}, {})
    (folder / "out").mkdir()
    publish(open_location(str(folder / "out/dataset"), Storage()), dataset)
    job = make_job(
        f"output={folder}/out", "tracking.wandb=team/shop", "tracking.wandb_mode=offline", "seed=7", *sets
    )
    (folder / "out/job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    (folder / "out/report.html").write_text("report.html")
    return job


@pytest.mark.processes
def test_an_offline_run_is_written_whole_at_the_end_and_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    # Nothing is sent: a server that is asked would not answer here.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    job = offline_job(
        tmp_path, "storage.endpoint=https://me:secret@store", "tracking.mlflow=https://me:secret@mlflow"
    )
    for _ in range(2):  # the second run has nothing to do
        end_wandb(job, "run-1", HISTORY, METRICS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    (folder,) = (tmp_path / "out/wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    written = whole_run(file)
    (run, *_) = [record.run for record in written if record.HasField("run")]
    assert (run.entity, run.project, run.display_name) == ("team", "shop", "out")
    config = {name: value for name, value in items(run.config.update).items() if name != "_wandb"}
    for record in written:
        config |= items(record.config.update)
    assert config["seed"] == 7
    assert config["training"]["rows"]["learning_rate"] == job.training.rows.learning_rate
    assert config["storage"]["endpoint"] == "https://store"
    assert config["mmssl.version"] == mmssl_dist.__version__
    assert config["mmssl.data"] == Manifest("dataset", "0f" * 16, {}, {}).fingerprint
    assert "tracking" not in config
    history = [
        {name: value for name, value in items(record.history.item).items() if not name.startswith("_")}
        for record in written
        if record.HasField("history")
    ]
    assert history == [
        {"loss/total": 0.5, "validation/recall@20": 0.125},
        {"loss/total": 0.25, "validation/recall@20": 0.25},
    ]
    assert [record.history.step.num for record in written if record.HasField("history")] == [1, 2]
    summary: dict[str, Any] = {}
    for record in written:
        summary |= items(record.summary.update)
    assert summary["final/test/recall@20"] == 0.25
    assert summary["final/test/popularity/recall@20"] == 0.125
    assert summary["final/test/without_image/recall@20"] == 0.1875
    assert {path.name for path in (folder / "files").iterdir()} >= {"job.yaml", "report.html"}
    # No key and no password in what is sent, in logs or beside them.
    assert "secret" in (tmp_path / "out/job.yaml").read_text()
    assert yaml.safe_load((folder / "files/job.yaml").read_text())["storage"]["endpoint"] == "https://store"
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != tmp_path / "out/job.yaml":
            assert KEY.encode() not in path.read_bytes(), path
            assert b"me:secret" not in path.read_bytes(), path


@pytest.mark.processes
def test_another_training_of_the_output_is_another_run(tmp_path):
    job = offline_job(tmp_path)
    end_wandb(job, "run-1", HISTORY, METRICS)
    end_wandb(job, "run-2", HISTORY, METRICS)
    end_wandb(job, "run-2", HISTORY, {**METRICS, "test": {"recall@20": 0.5}})  # evaluated again
    files = sorted(path.name for path in (tmp_path / "out/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 3
    assert len(set(files)) == 2  # by id: the same training is the same run


@pytest.mark.processes
def test_a_training_that_starts_over_is_another_run_and_one_of_another_mode_is_recorded(tmp_path):
    job = offline_job(tmp_path)
    end_wandb(job, "run-1", HISTORY, METRICS)
    start_over(job, "run-1")
    end_wandb(job, "run-1", HISTORY, METRICS)  # of equal figures
    end_wandb(job, "run-1", HISTORY, METRICS)
    files = {path.name for path in (tmp_path / "out/wandb").glob("offline-run-*/*.wandb")}
    assert len(files) == 2


@pytest.mark.processes
def test_what_was_recorded_offline_is_recorded_online_too(tmp_path, monkeypatch, caplog):
    def refuse(job: Any, run: str) -> None:
        raise ConnectionError("no server")

    offline = offline_job(tmp_path)
    online = make_job(f"output={tmp_path}/out", "tracking.wandb=team/shop", "seed=7")
    end_wandb(offline, "run-1", HISTORY, METRICS)
    monkeypatch.setattr(tracker, "WandbRun", refuse)
    end_wandb(offline, "run-1", HISTORY, METRICS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    end_wandb(online, "run-1", HISTORY, METRICS)
    assert "no server" in caplog.text


def test_a_training_without_checkpoints_starts_over(tmp_path):
    job = make_job(f"output={tmp_path}/out", "tracking.wandb=team/shop")
    folder = RunFolder.of(job).training.location / "run-1"
    identify(job, folder)
    (start,) = (tmp_path / "out/trackers").iterdir()
    token = start.read_text()
    assert (start.name, len(token)) == ("start-run-1", 16)
    (folder / "checkpoint/state").write_bytes(b"x")
    identify(job, folder)  # resumed
    assert start.read_text() == token
    folder.remove()  # by --force, or because another training was published
    identify(job, folder)
    assert start.read_text() != token


def test_a_job_without_trackers_that_keep_runs_has_nothing_to_start_over(tmp_path):
    start_over(make_job(f"output={tmp_path}/out"), "run-1")
    assert not (tmp_path / "out").exists()


def test_an_offline_run_has_no_tracker_while_it_trains(tmp_path):
    job = make_job(f"output={tmp_path}", "tracking.wandb=shop", "tracking.wandb_mode=offline")
    started = TrackingCallback(job, "run-1", None)._start()
    assert [made.name for made in started] == ["TensorBoard", "Ray metrics"]


@pytest.mark.processes
def test_a_server_that_is_not_there_is_warned_of(tmp_path):
    """In a process of its own, whose W&B client must end with it."""
    program = f"""
import logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s")
from mmssl_dist.tracking import wandb
from tests.jobs import make_job
wandb._START_SECONDS = 5.0
wandb.end_wandb(make_job("output={tmp_path}/out", "tracking.wandb=shop"), "run-1", [], {{}})
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "WANDB_API_KEY": KEY,
        "WANDB_BASE_URL": "http://127.0.0.1:1",
    }
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "W&B: the end of this run was not recorded (" in result.stderr
    assert KEY not in result.stdout + result.stderr
    assert not list((tmp_path / "out").glob("wandb/final-*"))


def test_what_an_online_run_needs(monkeypatch, tmp_path):
    check_wandb(make_job())
    check_wandb(make_job("tracking.wandb=shop", "tracking.wandb_mode=offline"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com")
    online = make_job("tracking.wandb=shop")
    with pytest.raises(InputError, match=r"tracking\.wandb: found shop; .*WANDB_API_KEY.*offline"):
        check_wandb(online)
    (tmp_path / "netrc").write_text(f"machine wandb.example.com login user password {KEY}\n")
    check_wandb(online)
    (tmp_path / "netrc").write_text(f"machine elsewhere login user password {KEY}\n")
    with pytest.raises(InputError, match="API key"):
        check_wandb(online)
    (tmp_path / "netrc").write_text(f"machine wandb.example.com loggin {KEY}\n")
    with pytest.raises(InputError, match="API key") as caught:
        check_wandb(online)
    assert KEY not in str(caught.value)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check_wandb(online)


@pytest.mark.parametrize("host", ["api.forge.coreweave.com", "api.wandb.ai"])
def test_a_key_for_the_service_of_wandb_itself(monkeypatch, tmp_path, host):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", "~/netrc")
    (tmp_path / "netrc").write_text(f"machine {host} login user password {KEY}\n")
    check_wandb(make_job("tracking.wandb=shop"))
    # It is none for a server of one's own.
    (tmp_path / "config").mkdir()
    (tmp_path / "config/settings").write_text("[default]\nbase_url = https://wandb.example.com\n")
    with pytest.raises(InputError, match="API key"):
        check_wandb(make_job("tracking.wandb=shop"))


def test_a_netrc_and_a_server_that_are_invalid(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_bytes(f"# caf\xe9\nmachine api.wandb.ai password {KEY}\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"netrc: found bytes that are not UTF-8; .*WANDB_API_KEY") as caught:
        check_wandb(make_job("tracking.wandb=shop"))
    assert KEY not in str(caught.value)
    monkeypatch.setenv("WANDB_BASE_URL", "wandb.example.com")
    with pytest.raises(InputError, match=r"WANDB_BASE_URL: found wandb\.example\.com; it must be the URL"):
        check_wandb(make_job("tracking.wandb=shop"))


@pytest.mark.processes
def test_the_check_starts_no_process_that_ray_would_inherit(tmp_path):
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    program = """
import os
from mmssl_dist.tracking.wandb import check_wandb
from tests.jobs import make_job
check_wandb(make_job("tracking.wandb=shop"))
assert "WANDB_SERVICE" not in os.environ
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_wandb_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None)
    check_wandb(make_job())
    with pytest.raises(InputError, match=r"tracking\.wandb: found shop; .*mmssl-dist\[wandb\]"):
        check_wandb(make_job("tracking.wandb=shop", "tracking.wandb_mode=offline"))
