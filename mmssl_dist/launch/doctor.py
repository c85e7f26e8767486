"""What the machine has: each check says what it found, and what to do where that is not enough."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from mmssl_dist.cluster.connection import connect, describe
from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.embedding.inputs import encoded, encoder_of
from mmssl_dist.embedding.weights import check_encoder
from mmssl_dist.errors import InputError, MmsslError
from mmssl_dist.graph.installed_dgl import dgl_installed
from mmssl_dist.launch.preflight import check_data, check_output
from mmssl_dist.tracking.mlflow import check_mlflow
from mmssl_dist.tracking.wandb import check_wandb

PACKAGES = (
    "mmssl-dist",
    "torch",
    "dgl",
    "ray",
    "deepspeed",
    "pyarrow",
    "numpy",
    "pandas",
    "s3fs",
    "pydantic",
)


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    passed: bool
    result: str


def examine(address: str | None, job: Job | None) -> Iterator[Check]:
    """Run every check; one that fails does not stop the others.

    Args:
        address: of a Ray cluster; None means RAY_ADDRESS, or a Ray of this machine.
        job: its encoders, trackers and storage are tried too.
    """
    # Cheapest first, so that much is known already when starting a Ray takes long or fails.
    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    packages = PACKAGES if dgl_installed() else [p for p in PACKAGES if p != "dgl"]
    for package in packages:
        # Bound as a default argument: a closure would look the name up after the loop has moved on.
        yield _check(package, lambda package=package: version(package))  # type: ignore[misc]
    if dgl_installed():
        yield _check("dgl", _dgl)
    else:
        yield Check("dgl", True, "not installed: neighbours are drawn by keys, the cut is streaming")
    yield _check("devices", _devices)
    yield _check("ray", lambda: _ray(address, job))
    if job is not None:
        for name in encoded(job):
            yield _check("encoder", partial(_encoder, job, name))
        if job.tracking.mlflow is not None:
            yield _check("tracker", partial(_mlflow, job))
        if job.tracking.wandb is not None:
            yield _check("tracker", partial(_wandb, job))
        yield _check("data", lambda: _data(job))
        yield _check("output", lambda: _output(job))


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except PackageNotFoundError:
        return Check(name, False, "not installed; run `pip install -c constraints.txt .`")
    except MmsslError as error:
        return Check(name, False, str(error))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Check(name, False, describe(error))


def _dgl() -> str:
    """Sample from a graph of three nodes, as training does."""
    import torch

    from mmssl_dist.graph.dgl_door import dgl

    graph = dgl.graph((torch.tensor([1, 2]), torch.tensor([0, 0])), num_nodes=3)
    # A draw, and not only the import: a library that does not fit fails at its first use.
    sampled = dgl.sampling.sample_neighbors(graph, torch.tensor([0]), 1)
    if sampled.num_edges() != 1:
        raise InputError(
            "dgl", f"{sampled.num_edges()} edges sampled", "asked for one", "Install the pinned versions."
        )
    return "samples"


def _devices() -> str:
    import os

    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} cores, " + (", ".join(gpus) if gpus else "no GPU: training runs on the CPU")


def _ray(address: str | None, job: Job | None) -> str:
    import ray

    scaling, storage = (job.scaling, job.storage) if job else (Scaling(), Storage())
    # A task that really runs: a Ray that accepts connections may still be unable to start a worker.
    with connect(scaling, storage, address) as cluster:
        cluster.run_task(platform.node)
        total = ray.cluster_resources()
        return f"runs tasks; {int(total.get('CPU', 0))} CPU, {int(total.get('GPU', 0))} GPU"


def _data(job: Job) -> str:
    files = check_data(job).all()
    return f"{len(files)} files, {sum(file.size for file in files)} bytes below {job.data.path}"


def _encoder(job: Job, modality: str) -> str:
    source = encoder_of(job, modality)
    check_encoder(source, job.storage)
    return f"{source.name} for {modality}" + ("" if source.is_path else ", downloaded when it is needed")


def _mlflow(job: Job) -> str:
    check_mlflow(job)
    return f"MLflow {version('mlflow-skinny')}"


def _wandb(job: Job) -> str:
    check_wandb(job)
    return f"W&B {version('wandb')}, {job.tracking.wandb_mode}, project {job.tracking.wandb}"


def _output(job: Job) -> str:
    check_output(job)
    return f"{job.output} can be written"
