"""What every test runs under: few threads, no accelerator, no cloud credentials, a Ray of its own."""

from __future__ import annotations

import os
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Set before torch, DGL or Ray are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["RAY_AUTH_MODE"] = (
    "token"  # otherwise on or off by whether an earlier Ray left a token in the home folder
)
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ.pop("RAY_ADDRESS", None)  # no test joins a cluster that it did not start
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no look-up of credentials on the network
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)

# Two busy cores make any deadline flaky; equal draws in every run make a failure mean a change.
settings.register_profile(
    "mmssl", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "fuzz", settings.get_profile("mmssl"), max_examples=2000, derandomize=False, report_multiple_bugs=True
)
settings.load_profile("mmssl")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which one process does not need
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """What goes to one of several processes as a whole."""
    from tests.schedule import Scheduling

    return Scheduling(config, log)
