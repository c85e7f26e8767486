"""Clusters that do not answer, or have not what a job asks for."""

from __future__ import annotations

from tests.end_to_end.bad_input.matrix import Bench, Case, named, patient


def _at(address: str) -> tuple[str, ...]:
    return ("prepare", "JOB", "--force", "--address", address)


def _scaled(*sets: str) -> tuple[str, ...]:
    options = [word for override in sets for word in ("--set", override)]
    return ("prepare", "JOB", "--force", "--address", "RAY", *options)


_DASHBOARD = "http://127.0.0.1:1"
CASES = [
    Case(
        name="nothing listens",
        message="--address: found 127.0.0.1:1; a Ray cluster must answer there",
        command=_at("127.0.0.1:1"),
        of_input=False,
    ),
    Case(
        name="no such port",
        message="--address: found 127.0.0.1:99999; a Ray cluster must answer there",
        command=_at("127.0.0.1:99999"),
        of_input=False,
    ),
    Case(
        name="half an address",
        message="--address: found [::1; a Ray cluster must answer there",
        command=_at("[::1"),
        of_input=False,
    ),
    Case(
        name="a dashboard's address",
        message="--address: found http://127.0.0.1:1; a driver joins a cluster by host:port",
        command=_at(_DASHBOARD),
        of_input=False,
    ),
    Case(
        name="submit where nothing listens",
        message="--address: found http://127.0.0.1:1; a Ray cluster must answer there",
        command=("submit", "JOB", "--address", _DASHBOARD),
    ),
    Case(
        name="submit by an unknown scheme",
        message="--address: found ftp://127.0.0.1:1; ",
        command=("submit", "JOB", "--address", "ftp://127.0.0.1:1"),
    ),
    Case(
        name="a job that no cluster knows",
        message="--address: found http://127.0.0.1:1; a Ray cluster must answer there",
        command=("jobs", "status", "nobody", "--address", _DASHBOARD),
    ),
    Case(
        name="too many cores",
        message="scaling: found 2 worker(s) of 64 CPU each; the Ray cluster has 3 CPU in all, room for 0",
        command=_scaled("scaling.workers=2", "scaling.cpus_per_worker=64"),
        of_input=False,
    ),
    Case(
        name="no GPU",
        message="scaling: found 1 worker(s) of 1 CPU, 1 GPU each; the Ray cluster has 3 CPU, 0 GPU in all",
        command=_scaled("scaling.gpus_per_worker=1"),
        of_input=False,
    ),
    Case(
        name="less memory than the plan needs",
        message="scaling.memory_gb: found 0.1 GB per worker; the plan for 1 worker(s) needs",
        command=("train", "JOB", "--force", "--set", "scaling.memory_gb=0.1"),
    ),
    Case(
        name="no such accelerator",
        message="scaling: found 1 worker(s) of 1 CPU, accelerator_type:Z9 each; the Ray cluster has",
        command=_scaled("scaling.accelerator=Z9"),
        of_input=False,
    ),
]


@patient
@named(CASES)
def test_a_bad_cluster(bench: Bench, case: Case) -> None:
    bench.check(case)
