"""Rows picked from a table and scaled, in one pass."""

from __future__ import annotations

import numpy as np

from mmssl_dist.kernels.compiling import kernel, run_in_pieces

_LEAST_ROWS = 1 << 9  # of a thread


def scaled_rows(table: np.ndarray, rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[n, F] float32: rows of ``table`` times their scale.

    Args:
        table: [m, F] float32, its rows at any distance from each other. rows: [n] int64. scale: [m] float64.
    """
    out = np.empty((len(rows), table.shape[1]), np.float32)
    run_in_pieces(len(rows), _LEAST_ROWS, lambda a, b: _pick(table, rows, scale, out, a, b))
    return out


@kernel("void(float32[:, :], int64[::1], float64[::1], float32[:, ::1], int64, int64)")
def _pick(
    table: np.ndarray, rows: np.ndarray, scale: np.ndarray, out: np.ndarray, first: int, last: int
) -> None:
    for i in range(first, last):
        row = rows[i]
        for column in range(table.shape[1]):
            out[i, column] = table[row, column] * scale[row]
