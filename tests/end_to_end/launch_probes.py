"""What Ray Train and S3 are asked for: the trainer as Ray gets it, the filesystem as workers get it."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Sequence
from contextlib import chdir
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyarrow.fs as pafs
import pytest
import ray
from mlflow import MlflowClient
from ray.train.torch import TorchTrainer
from ray.tune import Tuner

from mmssl_dist.cluster.connection import Cluster, worker_environment
from mmssl_dist.cluster.local_ray import local_ray
from mmssl_dist.cluster.log_relay import LogRelay
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError, StorageError
from mmssl_dist.launch.earlier_run import check_start
from mmssl_dist.launch.partition_stage import partition_workers
from mmssl_dist.launch.train_stage import check_memory, run_training
from mmssl_dist.storage import Location, Manifest, open_location
from mmssl_dist.tracking.mlflow import MlflowRun
from mmssl_dist.tracking.trackers import TrackingCallback
from mmssl_dist.tracking.wandb import end_wandb
from mmssl_dist.tuning.run_trials import run_trials
from tests.exported import publish_run, write_uploads
from tests.jobs import make_job

_PARTITIONS = Manifest(
    "partitions",
    "any",
    {
        "degrees": {"users": [[2, 2]], "items": [[1, 2]]},
        "interactions": {"train": 2},
        "modalities": {"image": 2},
        "edge_cut_of_workers": [0.0],
        "method": "metis",
        "balance": {"edges": 1.0},
    },
    {},
)


class _Handed(Exception):
    """Ends a launch once Ray has the trainer."""


def handed_to_ray(folder: Path, sets: Sequence[str]) -> object:
    """What the training stage asks of Ray Train for its workers."""
    job = _job(folder, sets)
    cluster = _cluster(job)
    trainers = []

    def fit(trainer: TorchTrainer) -> None:
        trainers.append(trainer)
        raise _Handed

    waits = []

    def wait(bundles: Sequence[dict[str, float]], limit: float, stage: str) -> None:
        waits.append((list(bundles), limit, stage))

    waiting = patch(
        "mmssl_dist.launch.run_workers.await_room", wait
    )  # this machine may not have what the job asks for
    with waiting, patch.object(TorchTrainer, "fit", fit), pytest.raises(_Handed):
        run_training(cluster, job, _PARTITIONS)
    starts: list[float] = []
    with patch("mmssl_dist.cluster.local_ray._start", lambda arguments, seconds: starts.append(seconds)):
        with local_ray(job.scaling, {}, {}):
            pass
    (trainer,) = trainers
    scaling, run = trainer.scaling_config, trainer.run_config
    return (
        scaling.num_workers,
        scaling.use_gpu,
        scaling.resources_per_worker,
        trainer.backend_config.backend,
        trainer.backend_config.timeout_s,
        run.failure_config.max_failures,
        run.checkpoint_config.num_to_keep,
        run.worker_runtime_env,
        scaling.accelerator_type,
        waits,
        trainer.train_loop_config["run"].every_minutes,
        starts,
    )


def room(folder: Path, sets: Sequence[str]) -> str:
    """What training says that will not fit."""
    job = _job(folder, sets)
    with pytest.raises(InputError) as caught:
        check_memory(job, _PARTITIONS)
    return str(caught.value)


def start(folder: Path, sets: Sequence[str]) -> str | None:
    """What is said of the run that a training would start from."""
    try:
        check_start(_job(folder, sets))
    except InputError as error:
        return str(error)
    return None


def asked_of_tune(folder: Path, sets: Sequence[str]) -> object:
    """What ``tune`` asks of Ray Tune for a search."""
    job = _job(folder, sets)
    cluster = _cluster(job)
    tuners = []

    def fit(tuner: Tuner) -> None:
        tuners.append(tuner)
        raise _Handed

    with patch.object(Tuner, "fit", fit), pytest.raises(_Handed):
        run_trials(cluster, job, open_location(str(folder / "tuning"), job.storage))
    (tuner,) = tuners
    asked = tuner._local_tuner._tune_config
    rungs = asked.scheduler._brackets[0]._rungs
    return (
        asked.num_samples,
        asked.max_concurrent_trials,
        repr(asked.search_alg._space),
        [milestone for milestone, _ in rungs],
        asked.scheduler._reduction_factor,
    )


def asked_of_mlflow(folder: Path, sets: Sequence[str]) -> object:
    """What MLflow is asked for when a training reports its first epoch."""
    asked: list[str] = []

    class Client:
        def __init__(self, uri: str) -> None:
            asked.append(uri)

        def get_experiment_by_name(self, name: str) -> None:
            asked.append(name)
            raise _Handed

    entry = {"epoch": 1.0, "recall@20": 0.1}
    with patch.dict("sys.modules", {"mlflow": SimpleNamespace(MlflowClient=Client)}):
        TrackingCallback(_job(folder, sets), "run", _relay()).after_report(None, [entry], None)
    return asked


def registered_models(folder: Path, sets: Sequence[str]) -> object:
    """The models that a run's end leaves in MLflow's registry."""
    output = Path(mkdtemp(dir=folder))
    write_uploads(publish_run(output).job)
    store = f"sqlite:///{output}/runs.db"
    job = _job(folder, [*sets, f"output={output}", f"tracking.mlflow={store}"])
    with chdir(output):  # where MLflow keeps the files of a run in sqlite
        MlflowRun(job, "run").end(job, {})
    return [model.name for model in MlflowClient(store).search_registered_models()]


def asked_of_wandb(folder: Path, sets: Sequence[str]) -> object:
    """What Weights & Biases is asked for when a job ends."""
    asked: list[object] = []

    def init(**options: object) -> None:
        asked.append((options["project"], options["mode"]))
        raise _Handed

    client = SimpleNamespace(init=init, Settings=dict)
    with patch.dict("sys.modules", {"wandb": client}):
        end_wandb(_job(folder, sets), "run", [], {})
    return asked


def _cluster(job: Job) -> Cluster:
    cluster = Cluster(worker_environment(job.scaling, job.storage), debug=False)
    cluster.__dict__["relay"] = _relay()  # one process for all probes, where each would start its own
    return cluster


@cache
def _relay() -> Any:
    return ray.remote(num_cpus=0)(LogRelay).remote()


def workers_of_partition(folder: Path, sets: Sequence[str]) -> int:
    """How many workers the partition stage starts."""
    return partition_workers(_job(folder, sets))


def filesystem(folder: Path, sets: Sequence[str]) -> object:
    """The settings of the filesystem behind an s3 URL, in pyarrow's own words."""
    location = open_location("s3://bucket/run", _job(folder, sets).storage)
    return location.filesystem.__reduce__()[1]


def downloads_kept(folder: Path, sets: Sequence[str]) -> int:
    """How many of two downloads of 100 bytes, an hour between them, are there in the end."""
    store, cache_folder = folder / "store", Path(mkdtemp(dir=folder))
    store.mkdir(exist_ok=True)
    elsewhere = pafs.SubTreeFileSystem(str(store), pafs.LocalFileSystem())
    for name in ("a", "b"):
        (store / name).write_bytes(b"x" * 100)
        copy = Location(elsewhere, name, f"s3://bucket/{name}", _job(folder, sets).storage).localize(
            cache_folder
        )
        os.utime(copy, (time.time() - 3600, time.time() - 3600))
    return len([path for path in cache_folder.rglob("*") if path.is_file()])


def requests_of_a_failing_store(folder: Path, sets: Sequence[str]) -> int:
    """How often a request is sent to a store that is out of order, from where a location is sent to: a
    worker."""
    requests = []

    class OutOfOrder(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            requests.append(self.path)
            self.send_response(503)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002, the base's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), OutOfOrder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"storage.endpoint=http://127.0.0.1:{server.server_port}"
        base = (
            "storage.region=us-east-1",
            "storage.path_style=true",
            "storage.anonymous=true",
            "storage.retries=0",
        )
        location = open_location("s3://bucket/run", _job(folder, (endpoint, *base, *sets)).storage)
        with pytest.raises(StorageError):
            pickle.loads(pickle.dumps(location)).info()
    finally:
        server.shutdown()
        server.server_close()
    return len(requests)


def _job(folder: Path, sets: Sequence[str]) -> Job:
    return make_job(*sets, output=str(folder))
