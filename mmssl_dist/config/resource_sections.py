"""The ``scaling`` and ``storage`` sections: the machines a run uses, and how it reaches object storage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mmssl_dist.config.section import ENDPOINT, Count, Natural, Range, Rate, Section, Text


class Scaling(Section):
    """Workers and what each one takes."""

    workers: Count | Range = 1
    """Workers W; at most partition.parts. [2, 8]: starts with 2 and takes more, up to 8, as machines come and
    go."""
    cpus_per_worker: Count = 1
    """Cores reserved in Ray per worker; also its number of compute threads."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs per worker; 0 trains on the CPU."""
    accelerator: Text | None = None
    """Accelerator type the workers need, as Ray names it (such as A100 or L4); any when not given."""
    memory_gb: Rate | None = None
    """Memory each worker may take, in GB: training refuses a job whose plan needs more. By default a worker's
    share of what Ray finds on the machines there are; not looked at where an autoscaler brings others."""
    wait_seconds: Count = 1800
    """Seconds to wait for machines or for other jobs to end, before giving up."""
    start_seconds: Count = 120
    """Seconds that a Ray of this machine may take to start; longer in proportion where the load average is
    above the number of cores."""

    @property
    def fewest(self) -> int:
        """Workers that training starts with."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        """Workers that training may grow to."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray resources of one worker."""
        devices = {"GPU": float(self.gpus_per_worker)} if self.gpus_per_worker else {}
        # a sliver of it: Ray's machines have 1 of their accelerator's type
        accelerator = {f"accelerator_type:{self.accelerator}": 0.001} if self.accelerator else {}
        return {"CPU": float(self.cpus_per_worker)} | devices | accelerator


class Storage(Section):
    """How remote URLs are reached. Never keys: those come from each cloud's standard credential chain."""

    endpoint: Annotated[str, Field(pattern=ENDPOINT)] | None = None
    """Endpoint URL of an S3-compatible store, such as http://127.0.0.1:9000; for gs:// and abfs:// that of an
    emulator."""
    region: Text | None = None
    """s3:// only: region of the buckets."""
    path_style: bool = False
    """s3:// only: address buckets as path instead of host name, as most S3-compatible stores want."""
    anonymous: bool = False
    """s3:// and gs://: send no credentials."""
    retries: Natural = 5
    """Times a failed request is sent again; of gs:// 5 seconds for each of them and one more."""
    cache_gb: Rate = 100.0
    """Downloads that a machine keeps, in GB; beyond, those not used for longest are deleted. What a run uses
    now stays."""
