"""Keyed draws and dropout in one pass: a number is a hash of a key and ids, in equal bits on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels import splitmix
from mmssl_dist.kernels.bits import GOLDEN, splitmix64
from mmssl_dist.kernels.compiling import kernel, run_in_pieces
from mmssl_dist.kernels.splitmix import WORD

_UNIFORM_BITS = 23  # (bits + 0.5) / 2^23 is exact in float32 and never 0 or 1
_LEAST = 1 << 15  # numbers of a thread


def uniform(key: int, *ids: Tensor) -> Tensor:
    """Float32 in the open interval (0, 1), one per element of the ids broadcast together, on their device.

    key: of 63 bits. ids: int64 tensors; the number at an element depends on ``key`` and that element's ids
        alone. Resolution 2^-23.
    """
    shapes = [part.shape for part in ids]
    on_cpu = all(part.device.type == "cpu" and part.dtype == torch.int64 for part in ids)
    if on_cpu and len(ids) == 2 and _is_column(shapes[0]) and shapes[1][-1:].numel() == ids[1].numel():
        rows, columns = ids[0].reshape(-1).numpy(), ids[1].reshape(-1).numpy()
        out = torch.empty(len(rows), len(columns))
        _pieces(len(rows), len(columns), lambda a, b: _uniform(_word(key), rows, columns, out.numpy(), a, b))
        return out
    if on_cpu and len(ids) == 1:
        flat = ids[0].reshape(-1).numpy()
        drawn = torch.empty(len(flat))
        _pieces(len(flat), 1, lambda a, b: _uniform_of_one(_word(key), flat, drawn.numpy(), a, b))
        return drawn.view(shapes[0])
    return uniform_plain(key, *ids)


def uniform_plain(key: int, *ids: Tensor) -> Tensor:
    """``uniform`` in torch. Cheapest with the smallest tensors first."""
    bits = shift_right(hash_words(key, ids), 64 - _UNIFORM_BITS)
    return bits.to(torch.float32).add_(0.5).mul_(2.0**-_UNIFORM_BITS)


def dropout(rows: Tensor, node_ids: Tensor, key: int, rate: float) -> Tensor:
    """Inverted dropout of float32 rows [n, D] whose mask depends on (key, node id, column) alone.

    node_ids [n] int64: so a node is masked alike wherever and in whatever order its row is computed. The mask
    is drawn again for the gradient instead of being kept.
    """
    if rate == 0.0:
        return rows
    dropped: Tensor = _Dropout.apply(rows, node_ids, key, rate)  # type: ignore[no-untyped-call]
    return dropped


def dropout_plain(rows: Tensor, node_ids: Tensor, key: int, rate: float) -> Tensor:
    """``dropout`` in torch."""
    columns = torch.arange(rows.shape[1], device=rows.device)
    kept = uniform_plain(key, node_ids.unsqueeze(1), columns) >= rate
    return rows * kept.to(rows.dtype).mul_(1.0 / (1.0 - rate))


class _Dropout(torch.autograd.Function):
    """Rows times their mask; so is the gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, node_ids: Tensor, key: int, rate: float) -> Tensor:
        # Not the mask: drawing it again costs less than keeping a byte for every element of every step.
        ctx.save_for_backward(node_ids)
        ctx.draw = (key, rate)
        return _masked(rows, node_ids, key, rate)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (node_ids,) = ctx.saved_tensors
        return _masked(gradient, node_ids, *ctx.draw), None, None, None


def _masked(rows: Tensor, node_ids: Tensor, key: int, rate: float) -> Tensor:
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return dropout_plain(rows, node_ids, key, rate)
    values, ids = rows.detach().contiguous().numpy(), node_ids.contiguous().numpy()
    out = torch.empty(rows.shape)
    # Inverted dropout: rows keep their mean, so evaluation needs no factor.
    scale = 1.0 / (1.0 - rate)
    _pieces(
        len(rows), rows.shape[1], lambda a, b: _mask(_word(key), rate, scale, ids, values, out.numpy(), a, b)
    )
    return out


def hash_words(key: int, ids: tuple[Tensor, ...]) -> Tensor:
    """64 mixed bits per element of the ids broadcast together, as int64."""
    state: Tensor | None = None
    for part in ids:
        if part.dtype != torch.int64:
            raise TypeError(f"ids must be int64, got {part.dtype}")
        spread = part * signed(splitmix.GOLDEN)
        state = mix_words(spread.bitwise_xor_(signed(key)) if state is None else spread ^ state)
    if state is None:
        raise TypeError("at least one tensor of ids is needed")
    return state


def mix_words(value: Tensor) -> Tensor:
    """``mix_word`` on a temporary int64 tensor, in place: it wraps around as unsigned integers do."""
    # Written out, since torch shifts no unsigned 64-bit integers; a test compares all forms bit by bit.
    value = value.add_(signed(splitmix.GOLDEN))
    value = value.bitwise_xor_(shift_right(value, 30)).mul_(signed(splitmix.FIRST))
    value = value.bitwise_xor_(shift_right(value, 27)).mul_(signed(splitmix.SECOND))
    return value.bitwise_xor_(shift_right(value, 31))


def shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic on signed integers, hence the mask."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def signed(word: int) -> int:
    """The two's complement reading of a 64-bit word."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _word(key: int) -> np.uint64:
    return np.uint64(key & WORD)


def _is_column(shape: torch.Size) -> bool:
    return len(shape) == 2 and shape[1] == 1


def _pieces(rows: int, width: int, run: Any) -> None:
    run_in_pieces(rows, max(1, _LEAST // max(width, 1)), run)


_S41 = np.uint64(64 - _UNIFORM_BITS)
_HALF, _UNIT = np.float32(0.5), np.float32(2.0**-_UNIFORM_BITS)


@kernel("void(uint64, int64[::1], int64[::1], float32[:, ::1], int64, int64)")
def _uniform(
    key: np.uint64, rows: np.ndarray, columns: np.ndarray, out: np.ndarray, first: int, last: int
) -> None:
    for i in range(first, last):
        state = splitmix64((np.uint64(rows[i]) * GOLDEN) ^ key)
        for j in range(len(columns)):
            bits = splitmix64(state ^ (np.uint64(columns[j]) * GOLDEN)) >> _S41
            out[i, j] = (np.float32(np.int32(bits)) + _HALF) * _UNIT


@kernel("void(uint64, int64[::1], float32[::1], int64, int64)")
def _uniform_of_one(key: np.uint64, ids: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    for i in range(first, last):
        out[i] = (
            np.float32(np.int32(splitmix64((np.uint64(ids[i]) * GOLDEN) ^ key) >> _S41)) + _HALF
        ) * _UNIT


@kernel("void(uint64, float32, float32, int64[::1], float32[:, ::1], float32[:, ::1], int64, int64)")
def _mask(
    key: np.uint64,
    rate: float,
    scale: float,
    ids: np.ndarray,
    rows: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    for i in range(first, last):
        state = splitmix64((np.uint64(ids[i]) * GOLDEN) ^ key)
        for j in range(rows.shape[1]):
            bits = splitmix64(state ^ (np.uint64(j) * GOLDEN)) >> _S41
            drawn = (np.float32(np.int32(bits)) + _HALF) * _UNIT
            # times zero, as in torch, so that a row that is not finite stays so
            out[i, j] = rows[i, j] * (scale if drawn >= rate else np.float32(0.0))
