"""Arguments of a run's methods, as notebooks give them: one id or several, and lengths of lists."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from mmssl_dist.errors import InputError


def list_length(k: int) -> int:
    """``k`` as a Python number: FAISS takes no other, NumPy's for example."""
    rule, remedy = "a list has at least one item", "Give a whole number of at least 1."
    try:
        number = operator.index(k)
    except TypeError as error:
        raise InputError("k", repr(k), rule, remedy) from error
    # ``index`` takes True for 1.
    if isinstance(k, bool | np.bool_) or number < 1:
        raise InputError("k", k, rule, remedy)
    return number


def several_ids(argument: object) -> list[object] | None:
    """The ids of a list, tuple, array, series, range or set; None for a single id."""
    # An array without axes is a single id, which cannot be iterated.
    if isinstance(argument, np.ndarray) and argument.ndim == 0:
        return None
    if isinstance(argument, str | bytes | pa.Scalar) or not isinstance(argument, Iterable):
        return None
    return list(argument)
