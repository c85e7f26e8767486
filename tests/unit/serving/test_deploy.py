"""How long a service waits for Ray Serve's proxies, and what it says when they stay away."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError

from mmssl_dist.errors import WorkerError
from mmssl_dist.serving.ingress import PATIENCE
from mmssl_dist.serving.serve import _deploy_patiently

PROXY = (
    r"^the service did not start: Ray Serve's HTTP proxy was not up within a minute, in {} tries \({}.*"
    r"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S to more than 60 seconds\.$"
)


def deployment(*outcomes: Exception | None):
    """A deployment that ends as ``outcomes`` say, one a call, and the calls that are left."""
    left = list(outcomes)

    def deploy() -> None:
        outcome = left.pop(0)
        if outcome is not None:
            raise outcome

    return deploy, left


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_proxy_that_is_late_is_waited_for_again(caplog, late):
    deploy, left = deployment(*[TimeoutError("HTTP proxies not available after 60s.")] * late, None)
    _deploy_patiently(deploy, lambda: "no matter")
    assert left == []
    assert caplog.messages == ["Ray Serve's HTTP proxy is not up yet; waiting another minute"] * late


def test_a_proxy_that_never_comes_up_ends_with_the_variable_to_raise():
    deploy, left = deployment(*[TimeoutError("HTTP proxies not available after 60s.")] * 3, None)
    with pytest.raises(WorkerError, match=PROXY.format(3, "TimeoutError: HTTP proxies")):
        _deploy_patiently(deploy, lambda: "no matter")
    assert left == [None]


def test_a_proxy_that_ray_serve_ended_is_not_just_a_dead_actor():
    """What Ray Serve says where the proxy took longer than it allows."""
    deploy, _ = deployment(ActorDiedError())
    with pytest.raises(WorkerError, match=PROXY.format(1, "ActorDiedError")):
        _deploy_patiently(deploy, lambda: "no matter")


@pytest.mark.parametrize(
    ("reason", "message"), [("ValueError: no such run", "ValueError: no such run"), ("", "RuntimeError: x")]
)
def test_a_replica_that_fails_gives_its_reason(reason, message):
    deploy, _ = deployment(RuntimeError("x"))
    with pytest.raises(WorkerError, match=f"^the service did not start: {message}$"):
        _deploy_patiently(deploy, lambda: reason)


def test_a_proxy_has_a_minute():
    assert PATIENCE == {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
