"""Sums of neighbours' rows in float64, in the order of the lists: the same whatever is summed beside them."""

from __future__ import annotations

import numpy as np

from mmssl_dist.kernels.compiling import kernel, run_in_pieces

_LEAST_ROWS = 1 << 8  # of a thread


def scaled_sums(indptr: np.ndarray, columns: np.ndarray, source: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """float32 [n, C]: of each list the sum of its rows of ``source``, summed in float64, times its scale.

    Args:
        indptr: [n + 1] int64. columns: [E] int32 or int64. source: [m, C] float32. scale: [n] float64.
    """
    out = np.empty((len(scale), source.shape[1]), np.float32)
    run_in_pieces(len(scale), _LEAST_ROWS, lambda a, b: _sum(indptr, columns, source, scale, out, a, b))
    return out


_SUM = "void(int64[::1], {}[::1], float32[:, ::1], float64[::1], float32[:, ::1], int64, int64)"


@kernel(_SUM.format("int32"), _SUM.format("int64"))
def _sum(
    indptr: np.ndarray,
    columns: np.ndarray,
    source: np.ndarray,
    scale: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    width = source.shape[1]
    total = np.empty(width, np.float64)
    for row in range(first, last):
        total[:] = 0.0
        for edge in range(indptr[row], indptr[row + 1]):
            node = columns[edge]
            for column in range(width):
                total[column] += source[node, column]
        for column in range(width):
            out[row, column] = total[column] * scale[row]
