"""What the neighbours of rows say: the label that most have, and the part that a row would move to."""

from __future__ import annotations

import numpy as np

from mmssl_dist.kernels.compiling import kernel

_CAP = 2**31 - 1


_LABELS = (
    "void(int64[::1], {}[::1], int64[::1], int64[::1], int64[::1], int64, int64, int64[::1], int64[::1])"
)


@kernel(_LABELS.format("int32"), _LABELS.format("int64"))
def best_labels(
    indptr: np.ndarray,
    columns: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    ranks: np.ndarray,
    first: int,
    last: int,
    totals: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """The label with most weight among the neighbours of rows ``first`` to ``last``, -1 without any.

    Args:
        indptr: [rows + 1]. columns: [E] positions of the neighbours in ``labels``.
        labels: [n] from 0, or -1 for a neighbour without a say. weights: [n], above 0; or empty, for 1 each.
        ranks: 32 bits of each label; of equal totals the larger decides, then the lower label.
        totals: [labels] zeros, which they are again at the end.
        chosen: [last - first] the result.
    """
    touched = np.empty(1024, np.int64)
    for row in range(first, last):
        count = 0
        for edge in range(indptr[row], indptr[row + 1]):
            column = columns[edge]
            label = labels[column]
            if label >= 0:
                # The list of touched labels makes resetting cost what the row had, not what there are labels.
                if totals[label] == 0:
                    if count == len(touched):
                        longer = np.empty(2 * count, np.int64)
                        longer[:count] = touched
                        touched = longer
                    touched[count] = label
                    count += 1
                totals[label] += weights[column] if len(weights) else 1
        best, highest = -1, -1
        for i in range(count):
            label = touched[i]
            # Total and rank in one number; capped, so that a total never reaches the sign bit.
            score = (min(totals[label], _CAP) << 32) | ranks[label]
            totals[label] = 0
            if score > highest or (score == highest and label < best):
                best, highest = label, score
        chosen[row - first] = best


_WISHES = (
    "void(int64[::1], {}[::1], int64[::1], int64[::1], float64[::1], int64, int64, float64, int64, "
    "int64[::1], float64[::1])"
)


@kernel(_WISHES.format("int32"), _WISHES.format("int64"))
def wishes(
    indptr: np.ndarray,
    columns: np.ndarray,
    parts: np.ndarray,
    now: np.ndarray,
    room: np.ndarray,
    first: int,
    last: int,
    least: float,
    widest: int,
    wanted: np.ndarray,
    gain: np.ndarray,
) -> None:
    """The part that each of the rows ``first`` to ``last`` wants, and by how much, from 0 to 1.

    Args:
        indptr: [rows + 1]. columns: [E] positions of the neighbours in ``parts``.
        parts: [n] the part of each. now: [last - first] the rows' own. room: [P] share of each part that is
            free. least: neighbours that every part counts for at least. widest: the part with most room.
        wanted, gain: [last - first] the result.
    """
    held = np.zeros(len(room), np.int64)
    touched = np.empty(len(room), np.int64)
    for row in range(first, last):
        own, count = now[row - first], 0
        for edge in range(indptr[row], indptr[row + 1]):
            part = parts[columns[edge]]
            if held[part] == 0:
                touched[count] = part
                count += 1
            held[part] += 1
        # Before the loop below, which sets ``held`` back to zero. The part with most room takes part too, or
        # a row without neighbours would have nowhere to go.
        best, score = widest, (held[widest] + least) * room[widest]
        stays = (held[own] + least) * room[own]
        for i in range(count):
            part = touched[i]
            here = (held[part] + least) * room[part]
            if here > score or (here == score and part < best):
                best, score = part, here
            held[part] = 0
        share = (score - stays) / score if score > 0.0 else 0.0
        wanted[row - first] = best if share > 0.0 else own
        gain[row - first] = max(share, 0.0)
