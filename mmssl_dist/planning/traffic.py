"""What workers send each other in a step, in bytes."""

from __future__ import annotations

from mmssl_dist.config.job import Job
from mmssl_dist.planning.expected_batch import ExpectedBatch
from mmssl_dist.planning.sizes import Sizes

_COUNT, _FLOAT = 4, 4


def sent_bytes(job: Job, sizes: Sizes, batch: ExpectedBatch, workers: int) -> float:
    """Sent by one worker to all others in one step; workers send about the same amount, so each receives as
    much."""
    if workers == 1:
        return 0.0
    row, modalities = job.model.dimension * _FLOAT, len(sizes.modalities)
    an_id = 4 if sizes.num_nodes < 2**31 else 8  # as Exchange sends them
    ids = batch.asked * (an_id + _COUNT)  # asked for, and how many neighbours each has
    neighbours = batch.away_edges * (an_id + _FLOAT)
    rows = 2 * batch.away_rows * row  # and their gradients
    towers = 2 * batch.away_seeds * modalities * row
    wide = (1 + modalities) * row * 2 + (modalities * row if job.model.dropout > 0 else 0)
    candidates = batch.candidates / workers * (workers - 1) * wide if batch.candidates else 0.0
    contrastive = 0.0
    if job.losses.contrastive.weight > 0:
        views = modalities if job.losses.contrastive.rows == "lists" else 1
        contrastive = batch.users * (workers - 1) * (1 + views) * row * 2
    return ids + neighbours + rows + towers + candidates + contrastive


def local_share(batch: ExpectedBatch) -> float:
    """Share of the ID rows fetched in a step that are the asking worker's own."""
    return 1.0 - batch.away_rows / batch.rows if batch.rows else 1.0
