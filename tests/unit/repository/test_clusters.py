"""Cluster files: valid for the installed Ray, safe by default, and one in content."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from mmssl_dist.config import load_job

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"


def launcher(name: str) -> dict[str, Any]:
    tree = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    assert isinstance(tree, dict)
    return tree


def resources(name: str) -> dict[str, dict[str, Any]]:
    return {
        tree["kind"] + "/" + tree["metadata"]["name"]: tree
        for tree in yaml.safe_load_all((CLUSTER / name).read_text())
    }


CLUSTER_SPEC = resources("kuberay-cluster.yaml")["RayCluster/mmssl-dist"]["spec"]
JOB = resources("kuberay-job.yaml")["RayJob/mmssl-dist"]["spec"]
GROUPS = [CLUSTER_SPEC["headGroupSpec"], *CLUSTER_SPEC["workerGroupSpecs"]]


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_accepts_the_launcher_files(name: str) -> None:
    validate_config(prepare_config(launcher(name)))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_would_refuse_a_wrong_one(name: str) -> None:
    wrong = copy.deepcopy(launcher(name))
    wrong["available_node_types"]["train"]["ressources"] = {}
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_machines_cost_nothing_while_idle(name: str) -> None:
    tree = launcher(name)
    pools = tree["available_node_types"]
    head = pools.pop(tree["head_node_type"])
    assert tree["idle_timeout_minutes"] <= 10
    assert set(pools) == {"prepare", "train"}
    assert all(pool["min_workers"] == 0 for pool in pools.values())
    assert sum(pool["max_workers"] for pool in pools.values()) <= tree["max_workers"]
    assert (pools["prepare"]["resources"]["GPU"], pools["train"]["resources"]["GPU"]) == (0, 1)
    spot = re.compile(r"'(MarketType|provisioningModel)': '(spot|SPOT)'")
    assert all(spot.search(str(pool["node_config"])) for pool in pools.values())
    assert not spot.search(str(head["node_config"]))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_head_runs_no_task_and_takes_jobs_from_itself_only(name: str) -> None:
    tree = launcher(name)
    assert tree["available_node_types"][tree["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    start = " ".join(tree["head_start_ray_commands"])
    assert "--num-cpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in str(tree)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_machines_have_roles_and_no_keys(name: str) -> None:
    tree = launcher(name)
    for pool, node_type in (("head", "head"), ("prepare", "worker"), ("train", "worker")):
        config = tree["available_node_types"][pool]["node_config"]
        assert f"mmssl-dist-{node_type}" in str(config.get("IamInstanceProfile") or config["serviceAccounts"])


@pytest.mark.parametrize("path", sorted(CLUSTER.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|aws_secret|BEGIN [A-Z ]*PRIVATE KEY|ssh_private_key|password\s*:", re.I
    )
    assert not secret.search(path.read_text())


def test_one_job_has_the_cluster_that_many_share() -> None:
    assert JOB["rayClusterSpec"] == CLUSTER_SPEC
    assert JOB["shutdownAfterJobFinishes"] is True
    assert JOB["entrypoint"].startswith("mmssl-dist run jobs/large.yaml")
    assert JOB["activeDeadlineSeconds"] > 0


def test_kuberay_scales_from_zero_with_the_second_autoscaler() -> None:
    assert CLUSTER_SPEC["enableInTreeAutoscaling"] is True
    assert CLUSTER_SPEC["autoscalerOptions"]["version"] == "v2"
    assert CLUSTER_SPEC["rayVersion"] == ray.__version__
    assert CLUSTER_SPEC["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in CLUSTER_SPEC["workerGroupSpecs"]:
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
    for group in GROUPS:  # the second autoscaler replaces pods; a pod that restarts itself confuses it
        assert group["template"]["spec"]["restartPolicy"] == "Never"


def test_kuberay_pods_are_unprivileged_and_have_shared_memory() -> None:
    for group in GROUPS:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000  # the Dockerfile's user
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"] == container["resources"]["requests"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert set(volumes) == {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_kuberay_service_accounts_exist(name: str) -> None:
    accounts = {key.split("/")[1] for key in resources(name) if key.startswith("ServiceAccount/")}
    used = {group["template"]["spec"]["serviceAccountName"] for group in GROUPS}
    assert used == accounts == {"mmssl-dist-head", "mmssl-dist-worker"}


def test_the_large_job_fits_into_every_train_pool() -> None:
    scaling = load_job(ROOT / "jobs/large.yaml").scaling
    (train,) = (group for group in CLUSTER_SPEC["workerGroupSpecs"] if group["groupName"] == "train")
    limits = train["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["cpu"]) >= scaling.cpus_per_worker
    assert int(limits["nvidia.com/gpu"]) == scaling.gpus_per_worker
    assert train["maxReplicas"] >= scaling.workers
    for name in ("aws", "gcp"):
        pool = launcher(name)["available_node_types"]["train"]
        assert pool["resources"]["CPU"] >= scaling.cpus_per_worker
        assert pool["resources"]["GPU"] == scaling.gpus_per_worker
        assert pool["max_workers"] >= scaling.workers
