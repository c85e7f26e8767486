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
        "nothing listens",
        "--address: found 127.0.0.1:1; a Ray cluster must answer there",
        _at("127.0.0.1:1"),
        of_input=False,
    ),
    Case(
        "no such port",
        "--address: found 127.0.0.1:99999; a Ray cluster must answer there",
        _at("127.0.0.1:99999"),
        of_input=False,
    ),
    Case(
        "half an address",
        "--address: found [::1; a Ray cluster must answer there",
        _at("[::1"),
        of_input=False,
    ),
    Case(
        "a dashboard's address",
        "--address: found http://127.0.0.1:1; a driver joins a cluster by host:port",
        _at(_DASHBOARD),
        of_input=False,
    ),
    Case(
        "submit where nothing listens",
        "--address: found http://127.0.0.1:1; a Ray cluster must answer there",
        ("submit", "JOB", "--address", _DASHBOARD),
    ),
    Case(
        "submit by an unknown scheme",
        "--address: found ftp://127.0.0.1:1; ",
        ("submit", "JOB", "--address", "ftp://127.0.0.1:1"),
    ),
    Case(
        "a job that no cluster knows",
        "--address: found http://127.0.0.1:1; a Ray cluster must answer there",
        ("jobs", "status", "nobody", "--address", _DASHBOARD),
    ),
    Case(
        "too many cores",
        "scaling: found 2 worker(s) of 64 CPU each; the Ray cluster has 3 CPU in all, room for 0",
        _scaled("scaling.workers=2", "scaling.cpus_per_worker=64"),
        of_input=False,
    ),
    Case(
        "no GPU",
        "scaling: found 1 worker(s) of 1 CPU, 1 GPU each; the Ray cluster has 3 CPU, 0 GPU in all",
        _scaled("scaling.gpus_per_worker=1"),
        of_input=False,
    ),
    Case(
        "less memory than the plan needs",
        "scaling.memory_gb: found 0.1 GB per worker; the plan for 1 worker(s) needs",
        ("train", "JOB", "--force", "--set", "scaling.memory_gb=0.1"),
    ),
    Case(
        "no such accelerator",
        "scaling: found 1 worker(s) of 1 CPU, accelerator_type:Z9 each; the Ray cluster has",
        _scaled("scaling.accelerator=Z9"),
        of_input=False,
    ),
]


@patient
@named(CASES)
def test_a_bad_cluster(bench: Bench, case: Case) -> None:
    bench.check(case)
