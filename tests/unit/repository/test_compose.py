"""The Compose file: what it mounts is there, its commands are understood, nothing is open to the network.

It is parsed and compared with what it names; no container has been started from it.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from ray.scripts.scripts import cli as ray_commands

from mmssl_dist.app import app
from mmssl_dist.serving.guard import API_KEY

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
CONFIGS = {name: yaml.safe_load(config["content"]) for name, config in COMPOSE["configs"].items()}


def environment(service: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in SERVICES[service].get("environment", ()))


def test_the_services_are_there_with_images_of_one_version() -> None:
    assert set(SERVICES) == {"head", "service", "mlflow", "prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+\.\d+(-cpu)?$", service["image"]), name
    client = re.search(r"^mlflow-skinny==(.*)$", (ROOT / "constraints.txt").read_text(), flags=re.M)
    assert client is not None
    assert SERVICES["mlflow"]["image"].endswith(f":v{client[1]}")


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = re.sub(r"^\$\{MMSSL_DATA:\?[^}]*\}", "DATA", volume).split(":")[0]
        assert source == "DATA" or source in COMPOSE["volumes"] or (ROOT / "cluster" / source).is_file()
    assert {mount["source"] for mount in SERVICES[name].get("configs", ())} <= set(CONFIGS)


def test_keys_come_from_the_environment_and_none_has_a_default() -> None:
    for name, key in (
        ("service", API_KEY),
        ("head", "RAY_AUTH_TOKEN"),
        ("grafana", "GF_SECURITY_ADMIN_PASSWORD"),
    ):
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", environment(name)[key]), "Compose stops where it is not set"
    assert environment("head")["RAY_AUTH_MODE"] == "token"


def test_the_commands_are_understood() -> None:
    ray, start, *options = shlex.split(SERVICES["head"]["command"])
    assert (ray, start) == ("ray", "start")
    head = ray_commands.commands["start"].make_context("start", options).params
    assert head["head"]
    assert head["block"]
    mmssl, serve, *options = shlex.split(SERVICES["service"]["command"])
    assert (mmssl, serve) == ("mmssl-dist", "serve")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    service = commands["serve"].make_context("serve", options).params
    assert SERVICES["service"]["ports"] == [f"127.0.0.1:8000:{service['port']}"]
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in CONFIGS["prometheus"]["scrape_configs"]
    }
    assert scraped == {
        "training": [f"head:{head['metrics_export_port']}"],
        "service": [f"service:{environment('service')['RAY_SERVE_HAPROXY_METRICS_PORT']}"],
    }


def test_grafana_shows_both_dashboards_from_prometheus() -> None:
    (source,) = CONFIGS["datasource"]["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    folder = CONFIGS["dashboards"]["providers"][0]["options"]["path"]
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    boards = {
        json.loads((ROOT / "cluster" / file).read_text())["uid"]: target
        for file, target in mounted.items()
        if file.endswith(".json")
    }
    assert set(boards) == {"mmssl-dist", "mmssl-dist-service"}
    assert all(Path(target).parent == Path(folder) for target in boards.values())
