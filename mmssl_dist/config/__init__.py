"""A job's YAML as one frozen tree. Importing this package imports neither torch nor ray nor dgl."""

from mmssl_dist.config.job import Job
from mmssl_dist.config.load import load_job, parse_job, read_job

__all__ = ["Job", "load_job", "parse_job", "read_job"]
