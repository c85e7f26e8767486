"""What the import of DeepSpeed brings with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from mmssl_dist.training.light_deepspeed import deepspeed
assert callable(deepspeed.initialize)
assert "mlflow" not in sys.modules, "imported"
import mlflow
assert mlflow.MlflowClient
"""


@pytest.mark.processes
def test_mlflow_is_left_out_and_can_still_be_imported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
