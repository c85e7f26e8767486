"""Which build of torch is installed, without loading it: `plan` runs where nothing else needs torch."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_CUDA = re.compile(r"^cuda\b[^=\n]*= *['\"]", re.MULTILINE)


@cache
def has_cuda_build() -> bool:
    """Whether torch is one of the builds for CUDA, whatever GPUs there are; not where none is installed."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    return says_cuda(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"))


def says_cuda(version: str) -> bool:
    """Whether torch/version.py, as in ``version``, names a CUDA."""
    return _CUDA.search(version) is not None
