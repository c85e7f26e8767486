"""Jobs and stand-in exchanges for sampling in one process, as any worker of any number would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.sampling.seeds import SeedSampler
from tests.graphs import Pairs, cut, local_graph
from tests.jobs import make_job


def sampling_job(parts: int, *sets: str) -> Job:
    """Only what sampling asks for matters."""
    return make_job(*sets, seed=5, partition={"parts": parts}, model={"modality_graph": {"size": 10}})


class Announced(Exchange):
    """What a seed sampler hears of the other workers: of each partition how many pairs it has, and how many
    users who know every item, with how many interactions, and the sum of its users' shares."""

    def __init__(
        self, book: PartitionBook, pairs: Pairs, rank: int, workers: int, exponent: float = 1.0
    ) -> None:
        super().__init__(None, np.array([0, book.num_nodes]), 0)
        parts = cut(book, pairs)
        degrees = [np.diff(part.indptr[: part.users + 1]) for part in parts]
        full = [of_part[of_part >= book.num_items] for of_part in degrees]
        self._pairs = torch.tensor(
            [
                [
                    int(all_.sum() - left_out.sum()),
                    len(left_out),
                    int(left_out.sum()),
                    sum(round(65536 * d**exponent) for d in all_.tolist() if 0 < d < book.num_items),
                ]
                for all_, left_out in zip(degrees, full, strict=True)
            ]
        )
        self._counts = tuple(len(book.worker_parts(r, workers)) for r in range(workers))
        self._own = book.worker_parts(rank, workers)

    def gather_counts(self, count: int) -> tuple[int, ...]:
        assert count == len(self._own)
        return self._counts

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        assert rows.tolist() == self._pairs[self._own.start : self._own.stop].tolist()
        return self._pairs


def seed_samplers(book: PartitionBook, pairs: Pairs, workers: int, job: Job) -> list[SeedSampler]:
    """The seed sampler of each worker."""
    return [
        SeedSampler(
            local_graph(book, pairs, rank, workers),
            Announced(
                book=book, pairs=pairs, rank=rank, workers=workers, exponent=job.training.user_exponent
            ),
            job,
        )
        for rank in range(workers)
    ]
