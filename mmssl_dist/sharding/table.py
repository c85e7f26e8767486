"""ID rows at their owner, with a lazy row-wise Adam: a row moves only in the steps that read it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.config.training_sections import RowOptimizer
from mmssl_dist.exchange.exchange import Route

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_ELEMENTS_AT_ONCE = 1 << 16  # whose temporaries stay in the processor's cache


@dataclass(frozen=True)
class FrozenColumns:
    """What no update moves: the last ``columns`` columns of the rows marked in ``rows`` [n] bool."""

    rows: Tensor
    columns: int

    def cut(self, gradient: Tensor, index: Tensor) -> Tensor:
        """``gradient`` [k, D] of the rows ``index`` [k], with zeros where nothing moves."""
        learned = torch.ones(2, gradient.shape[1], device=gradient.device)
        learned[1, -self.columns :] = 0
        return gradient * learned.index_select(0, self.rows.index_select(0, index).long())


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
        if (
            len(route.requested_counts) > 1
        ):  # one requester asks for each row once; several may ask for the same row
            index, position = torch.unique(index, return_inverse=True)
            gradient = gradient.new_zeros(len(index), gradient.shape[1]).index_add_(0, position, gradient)
        self.steps += 1
        if len(index) == 0:
            return
        if self.frozen is not None:
            gradient = self.frozen.cut(gradient, index)
        at_once = (
            max(1, _ELEMENTS_AT_ONCE // gradient.shape[1]) if gradient.device.type == "cpu" else len(index)
        )
        for rows, slope in zip(torch.split(index, at_once), torch.split(gradient, at_once), strict=True):
            self._move(rows, slope)

    def _move(self, index: Tensor, gradient: Tensor) -> None:
        square = gradient.square()
        if self.settings.second_moment == "row":
            square = square.mean(1, keepdim=True)
        first = self.first_moment.index_select(0, index).lerp_(gradient, 1 - _BETAS[0])
        second = self.second_moment.index_select(0, index).lerp_(square, 1 - _BETAS[1])
        self.first_moment.index_copy_(0, index, first)
        self.second_moment.index_copy_(0, index, second)
        step = self.settings.learning_rate / (1 - _BETAS[0] ** self.steps)
        denominator = second.sqrt_().div_(math.sqrt(1 - _BETAS[1] ** self.steps)).add_(_EPSILON)
        self.rows.index_add_(0, index, first.div_(denominator), alpha=-step)
