"""Columns of numbers, and of texts that are numbers, compared with bounds."""

from __future__ import annotations

import decimal

import pyarrow as pa
import pytest

from mmssl_dist.errors import InputError
from mmssl_dist.serving.column_bounds import numbers_of, within


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["1.299", " 8.98 ", "100", "", None], [1.299, 8.98, 100, None, None]),
        (["1.299,00", "8,98", "100", "n/a"], [1299, 8.98, 100, None]),
        (["1.299", "12,5"], [1299, 12.5]),
        (["-1e3", "+.5", "NaN"], [-1000, 0.5, None]),
        ([None, ""], [None, None]),
        ([3, None], [3, None]),
        ([decimal.Decimal("1.50")], [1.5]),
    ],
)
def test_numbers_of_a_column(written, numbers):
    assert numbers_of(pa.array(written), "price").to_pylist() == numbers


@pytest.mark.parametrize("written", [["1,5", "2.5"], ["5 EUR"], ["1.29.9"], [True], [[1]]])
def test_a_column_of_something_else_is_refused(written):
    with pytest.raises(
        InputError, match=r"^where\.price: found .*; only numbers can be compared with a bound"
    ):
        numbers_of(pa.array(written), "price")


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"gt": 1}, [False, False, True, False]),
        ({"gte": 1}, [False, True, True, False]),
        ({"lt": "1"}, [True, False, False, False]),
        ({"lte": 1.0, "gt": 0}, [False, True, False, False]),
        ({"gte": float("-inf")}, [True, True, True, False]),
    ],
)
def test_every_bound_holds_and_an_item_without_a_number_is_not_within(bounds, expected):
    assert within(pa.array([0.0, 1.0, 2.0, None]), bounds, "price").tolist() == expected
