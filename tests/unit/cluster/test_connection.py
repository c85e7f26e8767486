"""What every task and worker gets, and addresses where no driver can join."""

from __future__ import annotations

import pytest

from mmssl_dist.cluster.connection import connect, worker_environment
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.errors import InputError


def test_environment_of_workers(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    storage = Storage(endpoint="http://127.0.0.1:9000", region="eu-west-1")
    variables = worker_environment(Scaling(workers=1, cpus_per_worker=3), storage)
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["DS_ACCELERATOR"] == "cpu"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert variables["AWS_REGION"] == "eu-west-1"
    assert not any("SECRET" in name or "KEY" in name for name in variables)
    assert "DS_ACCELERATOR" not in worker_environment(Scaling(gpus_per_worker=1), Storage())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "a Ray cluster must answer there"),
        ("127.0.0.1:70000", "a Ray cluster must answer there"),
        ("http://127.0.0.1:8265", "mmssl-dist submit"),
        ("ray://127.0.0.1:10001", "mmssl-dist submit"),
    ],
)
def test_address_without_a_cluster_to_join(monkeypatch, address, message):
    with pytest.raises(InputError, match=message) as caught, connect(Scaling(), Storage(), address):
        pass
    assert caught.value.where == "--address"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=message) as caught, connect(Scaling(), Storage()):
        pass
    assert caught.value.where == "RAY_ADDRESS"
