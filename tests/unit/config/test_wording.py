"""Every rule that a single value of a job can break is said in words of its own, and not in pydantic's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from mmssl_dist.config import parse_job
from mmssl_dist.config.job import Job
from mmssl_dist.config.wording import PATTERNS, WORDS
from mmssl_dist.errors import ConfigError

BASE: dict[str, Any] = {"output": "o", "data": {"path": "p", "modalities": {"image": {"file": "f"}}}}
# One or more values for every type of error.
BAD: tuple[Any, ...] = (
    "many",
    "",
    1,
    -1,
    0,
    1.5,
    float("inf"),
    float("nan"),
    True,
    None,
    [],
    {},
    ["a"],
    [1],
    [1, 2, 3],
    ["", 1],
    [0, 0],
    [2, 1],
    {"a": 1},
    {1: 2},
    {"": 1},
    10**12,
    10**30,
    date(2024, 1, 1),
    b"x",
    "\ud800",
    "a" * 300,
)
PYDANTIC = ("input should", "should be", "should have", "should match", "valid ", "after validation", "'a'")
# Types of errors that are ours, or that follow from another one.
OURS = {"disagreement", "default_factory_not_called", "extra_forbidden", "literal_error", "too_short"} | {
    *("string_pattern_mismatch", "kind", "model_name", "moment", "day", "order", "project", "files"),
}


def settings(section: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        path = (*above, name)
        yield path
        members = [field.annotation, *get_args(field.annotation)]
        for member in [inner for outer in members for inner in (outer, *get_args(outer))]:
            if isinstance(member, type) and issubclass(member, BaseModel):
                yield from settings(member, (*path, "image") if name == "modalities" else path)


def with_bad(path: tuple[str, ...], value: object) -> dict[str, Any]:
    tree = copy.deepcopy(BASE)
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return tree


def test_a_table_of_bad_values_for_every_setting():
    types, patterns = set(), set()
    for path in dict.fromkeys(settings(Job)):
        for value in BAD:
            tree = with_bad(path, value)
            try:
                Job.model_validate(copy.deepcopy(tree))
            except ValidationError as error:
                for problem in error.errors():
                    types.add(problem["type"])
                    patterns.add(problem.get("ctx", {}).get("pattern"))
                with pytest.raises(ConfigError) as caught:
                    parse_job(tree)
                for line in caught.value.problems:
                    rule = line.partition("; ")[2].lower()
                    assert not any(word in rule for word in PYDANTIC), line
    assert types <= set(WORDS) | OURS, "a type of error without words"
    assert set(WORDS) <= types, "words for an error that no value brings about"
    assert patterns - {None} == set(PATTERNS)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("scaling.workers", "many", "found 'many'; must be a whole number or a list"),
        ("scaling.workers", [2, 1], "found [2, 1]; must be a whole number or [fewest, most], in this order"),
        (
            "scaling.workers",
            [1, 2, 3],
            "must be a whole number or have no more than 2 entries",
        ),
        ("losses.candidates", 1, "found 1; must be at least 2 or all"),
        ("data.buckets", "many", "found 'many'; must be a whole number or auto"),
        ("data.layout", "parquet", "found 'parquet'; must be table, inter or mmssl"),
        ("data.split.validation", "half", "found 'half'; must be a number"),
        ("data.split.validation", 1, "found 1; must be less than 1"),
        ("training.rows.learning_rate", 0, "found 0; must be greater than 0"),
        ("partition.shuffle_features", "sometimes", "found 'sometimes'; must be true or false"),
        ("evaluation.ks", [], "found []; must have at least 1 entry"),
        (
            "evaluation.metric",
            "recall",
            "must be recall, precision, ndcg, hit_rate or mrr at a K",
        ),
        ("output", 1, "found 1; must be a text, in quotes where it looks like something else"),
        ("output", "", "found ''; must not be empty"),
        (
            "data.interactions",
            ["a.csv", "b.csv"],
            "must be one name; for several files, their folder or a glob",
        ),
        ("seed", 10**30, "found 1000000000000000000000000000000; must be"),
        ("model", "large", "found 'large'; this is a section, with keys below it"),
        ("model", {1: 2}, "must have texts as keys"),
    ],
)
def test_words_of(path, value, line):
    with pytest.raises(ConfigError) as caught:
        parse_job(with_bad(tuple(path.split(".")), value))
    (problem,) = caught.value.problems
    assert line in problem


def test_bounds_are_whole_where_they_can_be() -> None:
    for path, value, end in (
        ("evaluation.length_exponent", -1, "must be auto or at least 0"),
        ("training.rows.learning_rate", 0, "must be greater than 0"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_job(with_bad(tuple(path.split(".")), value))
        assert caught.value.problems[0].endswith(f"; {end}")
