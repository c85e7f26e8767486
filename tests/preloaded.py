"""What the server of ``processes`` does before it forks, so that its processes need not: imports of seconds,
and loading the machine code of the kernels. DGL is left out, whose draws have to start in each process."""

from __future__ import annotations

import sys

import mmssl_dist.launch.worker_entry
import mmssl_dist.training.light_deepspeed
import mmssl_dist.training.loop  # noqa: F401
from mmssl_dist.kernels.compiling import prepare_all

assert "dgl" not in sys.modules
prepare_all()
