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
    candidates = batch.candidates / workers * (workers - 1) * _of_a_candidate(job, modalities) * row
    contrastive = _contrastive_rows(job, batch, modalities, workers) * (workers - 1) * row * 2
    return ids + neighbours + rows + towers + candidates + contrastive


def _of_a_candidate(job: Job, modalities: int) -> int:
    """Rows that go to all workers, and gradients that come back."""
    adversarial = job.losses.adversarial
    rows = 2  # its final row
    if adversarial.perturbs and job.losses.ranking.loss != "bpr":
        rows += 2  # the sum over workers of the gradients that perturb
    if adversarial.has_critic:
        rows += 2 * modalities  # tower rows
    if job.model.modality_graph.size and (not adversarial.has_critic or job.model.dropout > 0):
        rows += modalities  # tower rows without dropout, for the lists; they have no gradient
    return rows


def _contrastive_rows(job: Job, batch: ExpectedBatch, modalities: int, workers: int) -> float:
    """Rows of one worker that the contrastive term compares with those of all workers."""
    term, candidates = job.losses.contrastive, batch.candidates / workers
    if term.weight == 0:
        return 0.0
    if term.rows == "lists":
        return batch.users * (1 + modalities)
    return candidates * modalities if term.rows == "modalities" else (batch.users + candidates) * 2


def local_share(batch: ExpectedBatch) -> float:
    """Share of the ID rows fetched in a step that are the asking worker's own."""
    return 1.0 - batch.away_rows / batch.rows if batch.rows else 1.0
