"""Compiles every kernel for this user and processor, ahead of the first run (make setup does)."""

from __future__ import annotations

import importlib
import pkgutil

from mmssl_dist import kernels
from mmssl_dist.kernels.compiling import prepare_all

if __name__ == "__main__":
    for module in pkgutil.iter_modules(kernels.__path__):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
    prepare_all()
