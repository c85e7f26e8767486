"""The state before the first step."""

from __future__ import annotations

import pytest
import torch

from mmssl_dist.training import state
from mmssl_dist.training.state import initial_rows
from tests.graphs import local_graph
from tests.unit.sampling.shares import sampling_job
from tests.unit.training.states import BOOK, PAIRS


@pytest.mark.parametrize("at_once", [1, 3, 1 << 16])
def test_initial_rows_belong_to_nodes_and_not_to_workers_or_pieces(monkeypatch, at_once):
    job = sampling_job(BOOK.parts)
    whole = initial_rows(job, local_graph(BOOK, PAIRS))
    assert whole.shape == (BOOK.num_nodes, job.model.dimension)
    assert 0.02 < float(whole.std()) < 0.3
    assert len(torch.unique(whole)) == whole.numel()
    monkeypatch.setattr(state, "ROWS_AT_ONCE", at_once)
    shares = [initial_rows(job, local_graph(BOOK, PAIRS, rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat(shares), whole)
