"""The variables that put HAProxy before the replicas: for a while, of this service alone, and the user's own
first."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from mmssl_dist.serving.ingress import straight_to_replicas

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
pytestmark = pytest.mark.processes  # ports are bound


@pytest.fixture(autouse=True)
def _none_are_set(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RAY_SERVE_"):
            monkeypatch.delenv(name)


def serve_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_they_are_there_until_the_end(host):
    with suppress(KeyError), straight_to_replicas(host):
        assert os.environ[HAPROXY] == "1"
        folder = Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        raise KeyError("stop")
    assert serve_variables() == {}
    assert not folder.exists()


def test_two_services_share_neither_files_nor_ports():
    with straight_to_replicas("127.0.0.1"):
        one = serve_variables()
        for name in one:
            del os.environ[name]
        with straight_to_replicas("127.0.0.1"):
            other = serve_variables()
    for name in one:
        assert (one[name] != other[name]) == (name.endswith("PORT") or "/" in one[name]), name
    for name in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
        with socket.socket() as free:
            free.bind(("", int(one[name])))


def test_the_user_s_own_stay(monkeypatch):
    monkeypatch.setenv(HAPROXY, "0")
    with straight_to_replicas("127.0.0.1"):
        assert os.environ[HAPROXY] == "0"
    assert serve_variables() == {HAPROXY: "0"}


def test_an_address_of_one_card_has_the_usual_way():
    with straight_to_replicas("192.0.2.7"):
        assert serve_variables() == {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
    assert serve_variables() == {}


def test_haproxy_answers_503_where_no_replica_does(tmp_path):
    """The two places of Ray Serve's template, and a stand-in for HAProxy that shows its arguments."""
    from ray.serve._private import haproxy_templates

    config = tmp_path / "haproxy.cfg"
    template = haproxy_templates.HAPROXY_CONFIG_TEMPLATE
    config.write_text(template)
    with straight_to_replicas("127.0.0.1"):
        program = Path(os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"])
        text = program.read_text()
        program.write_text(f'{text[: text.index("exec ")]}exec echo started "$@"\n')
        done = subprocess.run([program, "-db", "-f", config], capture_output=True, text=True, check=True)
    assert done.stdout == f"started -db -f {config}\n"
    edited = config.read_text()
    assert "return status 404" in template
    assert "return status 404" not in edited
    assert 'return status 503 content-type application/json hdr Retry-After 1 string \'{"detail":' in edited
    assert "errorfile 503" in template
    assert "errorfile 503" not in edited
    assert "errorfile 502" in edited
    assert " check backup\n" in template
    assert " check backup\n" not in edited


def test_ray_serve_knows_every_one_of_them():
    from ray.serve._private import constants

    source = Path(constants.__file__).read_text()
    with straight_to_replicas("127.0.0.1"):
        assert [name for name in serve_variables() if f'"{name}"' not in source] == []
