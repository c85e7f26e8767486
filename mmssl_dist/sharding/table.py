"""ID rows at their owner, with a lazy row-wise Adam: a row moves only in the steps that read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.config.training_sections import RowOptimizer
from mmssl_dist.exchange.exchange import Route
from mmssl_dist.kernels.id_sets import union
from mmssl_dist.kernels.row_adam import AdamStep, update_rows

_BETAS = (0.9, 0.999)  # of Adam's paper, as is the next
_EPSILON = 1e-8


@dataclass(frozen=True)
class FrozenColumns:
    """What no update moves: the last ``columns`` columns of the rows marked in ``rows`` [n] bool."""

    rows: Tensor
    columns: int


class RowTable:
    """The ID rows of this worker's nodes.

    Args:
        rows: [n, D] float32 initial rows.
        settings: learning rate and the kind of second moment.
        frozen: columns of some rows that stay as they are; None where all are learned.

    Attributes:
        first_moment: [n, D]. second_moment: [n, D], or [n, 1] with one second moment per row.
        steps: updates so far, of all rows together; the bias correction's exponent, as in torch's SparseAdam.
    """

    def __init__(self, rows: Tensor, settings: RowOptimizer, frozen: FrozenColumns | None = None) -> None:
        self.rows, self.settings, self.frozen, self.steps = rows, settings, frozen, 0
        self.first_moment = torch.zeros_like(rows)
        width = rows.shape[1] if settings.second_moment == "element" else 1
        self.second_moment = rows.new_zeros(rows.shape[0], width)

    def read(self, route: Route) -> Tensor:
        """The rows others ask for [k, D], as a leaf whose gradient ``update`` takes."""
        return self.rows.index_select(0, route.requested).requires_grad_()

    @torch.no_grad()
    def update(self, route: Route, gradient: Tensor) -> None:
        """One Adam step for the rows of ``route``.

        Args:
            gradient: [k, D] for ``route.requested``; a row that several workers asked for gets the sum.
        """
        index = route.requested
        # One worker asks for a row once; several may ask for the same row.
        if len(route.requested_counts) > 1:
            # Summed before Adam sees it: two updates of one row would count its moments twice.
            index, (position,) = union(len(self.rows), index)
            gradient = gradient.new_zeros(len(index), gradient.shape[1]).index_add_(0, position, gradient)
        # One count for all rows: a count for each would cost four bytes a node, and SparseAdam does without.
        self.steps += 1
        frozen = self.frozen
        step = AdamStep.of(
            learning_rate=self.settings.learning_rate,
            betas=_BETAS,
            epsilon=_EPSILON,
            steps=self.steps,
            frozen_columns=0 if frozen is None else frozen.columns,
        )
        update_rows(
            rows=self.rows,
            first_moment=self.first_moment,
            second_moment=self.second_moment,
            index=index,
            gradient=gradient,
            step=step,
            frozen=None if frozen is None else frozen.rows,
        )
