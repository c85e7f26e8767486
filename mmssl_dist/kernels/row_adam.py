"""Adam on some rows of a table, in one pass over them: moments and rows are read once and written once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels.compiling import helper, kernel, require_cpu, run_in_pieces

_ELEMENTS_AT_ONCE = 1 << 16  # of the twin, whose temporaries then stay in the processor's cache
_LEAST_ROWS = 1 << 12  # of a thread


@dataclass(frozen=True, kw_only=True)
class AdamStep:
    """Numbers of one step.

    Attributes:
        size: learning rate with the first moment's bias correction.
        correction: root of the second moment's bias correction, 1 - beta^t.
        first, second: 1 - beta, what a gradient counts in the first and in the second moment.
        epsilon: added to the root of the second moment.
        frozen_columns: last columns of the rows marked frozen, which do not move; 0 where no row is marked.
    """

    size: float
    correction: float
    first: float
    second: float
    epsilon: float
    frozen_columns: int = 0

    @classmethod
    def of(
        cls, learning_rate: float, betas: tuple[float, float], epsilon: float, steps: int, frozen_columns: int
    ) -> AdamStep:
        """The step number ``steps``, counted from 1."""
        return cls(
            size=learning_rate / (1 - betas[0] ** steps),
            correction=math.sqrt(1 - betas[1] ** steps),
            first=1 - betas[0],
            second=1 - betas[1],
            epsilon=epsilon,
            frozen_columns=frozen_columns,
        )


def update_rows(
    rows: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    index: Tensor,
    gradient: Tensor,
    step: AdamStep,
    frozen: Tensor | None = None,
) -> None:
    """Move the rows ``index`` [k], each once, by their ``gradient`` [k, D], and their moments.

    Args:
        rows, first_moment: float32 [n, D]. second_moment: [n, D], or [n, 1] with one number for a row.
        frozen: bool [n], rows whose last ``step.frozen_columns`` columns have no gradient; None where none.
    """
    if rows.device.type != "cpu":
        update_rows_plain(
            rows=rows,
            first_moment=first_moment,
            second_moment=second_moment,
            index=index,
            gradient=gradient,
            step=step,
            frozen=frozen,
        )
        return
    require_cpu(rows, first_moment, second_moment, index, gradient)
    marked = torch.zeros(0, dtype=torch.bool) if frozen is None else frozen
    arrays = (
        rows.numpy(),
        first_moment.numpy(),
        second_moment.numpy(),
        index.contiguous().numpy(),
        gradient.contiguous().numpy(),
        marked.numpy(),
        0 if frozen is None else step.frozen_columns,
    )
    numbers = (step.size, 1 / step.correction, step.first, step.second, step.epsilon)
    # Two kernels, since a branch inside the innermost loop would keep it from using vectors.
    run = _move_elements if second_moment.shape[1] == rows.shape[1] else _move_rows
    run_in_pieces(len(index), _LEAST_ROWS, lambda a, b: run(*arrays, *numbers, a, b))


@torch.no_grad()
def update_rows_plain(
    rows: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    index: Tensor,
    gradient: Tensor,
    step: AdamStep,
    frozen: Tensor | None = None,
) -> None:
    """``update_rows`` in torch."""
    if frozen is not None:
        learned = torch.ones(2, gradient.shape[1], device=gradient.device)
        learned[1, gradient.shape[1] - step.frozen_columns :] = 0
        gradient = gradient * learned.index_select(0, frozen.index_select(0, index).long())
    at_once = max(1, _ELEMENTS_AT_ONCE // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(index))
    for some, slope in zip(torch.split(index, at_once), torch.split(gradient, at_once), strict=True):
        square = slope.square()
        if second_moment.shape[1] == 1 < rows.shape[1]:
            square = square.mean(1, keepdim=True)
        first = first_moment.index_select(0, some).lerp_(slope, step.first)
        second = second_moment.index_select(0, some).lerp_(square, step.second)
        first_moment.index_copy_(0, some, first)
        second_moment.index_copy_(0, some, second)
        denominator = second.sqrt_().div_(step.correction).add_(step.epsilon)
        rows.index_add_(0, some, first.div_(denominator), alpha=-step.size)


_MOVE = (
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int64[::1], float32[:, ::1], boolean[::1], "
    "int64, float32, float32, float32, float32, float32, int64, int64)"
)


@helper
def _learned(frozen: np.ndarray, node: int, columns: int, width: int) -> int:
    return width - columns if columns > 0 and frozen[node] else width


@kernel(_MOVE)
def _move_elements(
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    index: np.ndarray,
    gradient: np.ndarray,
    frozen: np.ndarray,
    columns: int,
    size: float,
    inverse: float,
    new1: float,
    new2: float,
    epsilon: float,
    begin: int,
    end: int,
) -> None:
    width = rows.shape[1]
    for i in range(begin, end):
        node = index[i]
        row, m, v, g = rows[node], first[node], second[node], gradient[i]
        learned = _learned(frozen, node, columns, width)
        for j in range(learned):
            slope = g[j]
            m[j] += new1 * (slope - m[j])
            v[j] += new2 * (slope * slope - v[j])
            row[j] -= size * (m[j] / (np.sqrt(v[j]) * inverse + epsilon))
        for j in range(learned, width):
            m[j] -= new1 * m[j]
            v[j] -= new2 * v[j]
            row[j] -= size * (m[j] / (np.sqrt(v[j]) * inverse + epsilon))


@kernel(_MOVE, fastmath={"reassoc"})  # the sum over a row may be taken in the order of vectors
def _move_rows(
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    index: np.ndarray,
    gradient: np.ndarray,
    frozen: np.ndarray,
    columns: int,
    size: float,
    inverse: float,
    new1: float,
    new2: float,
    epsilon: float,
    begin: int,
    end: int,
) -> None:
    width = rows.shape[1]
    for i in range(begin, end):
        node = index[i]
        row, m, g = rows[node], first[node], gradient[i]
        learned = _learned(frozen, node, columns, width)
        square = np.float32(0.0)
        for j in range(learned):
            square += g[j] * g[j]
        # Over the whole width, frozen columns included, as the plain version's mean is.
        second[node, 0] += new2 * (square / np.float32(width) - second[node, 0])
        scale = size / (np.sqrt(second[node, 0]) * inverse + epsilon)
        for j in range(learned):
            m[j] += new1 * (g[j] - m[j])
            row[j] -= scale * m[j]
        for j in range(learned, width):
            m[j] -= new1 * m[j]
            row[j] -= scale * m[j]
