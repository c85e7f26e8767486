"""DeepSpeed, imported without MLflow.

DeepSpeed's tuner of its own settings, which is imported with it and is not used here, imports MLflow where
that is installed: two thirds of the time of DeepSpeed's import, in every worker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Until its end the import of ``module`` fails, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    # The tuner takes it for not installed, which it allows for.
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden("mlflow"):
    import deepspeed
    import deepspeed.ops

# Compiled in init_distributed for 46 s, for inference only, and an error where ninja is missing
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

__all__ = ["deepspeed"]
