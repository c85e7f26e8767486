"""What is wrong with a value, in words of its own: pydantic speaks to programmers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmssl_dist.config.section import ENDPOINT, METRIC, NAME

# By pydantic's type of error; braces are filled from the error's context.
WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "this is a section, with keys below it",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_parsing_size": "must be a number of fewer digits",
    "int_type": "must be a whole number",
    "invalid_key": "must have texts as keys. Put the key in quotes",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "missing": "missing; this key is required",
    "model_type": "this is a section, with keys below it",
    "string_too_short": "must not be empty",
    "string_type": "must be a text, in quotes where it looks like something else",
    "string_unicode": "must be a text of whole characters",
    "too_long": "must have no more than {max_length} entries",
    "tuple_type": "must be a list",
}
PATTERNS = {
    NAME: "must start with a letter or digit and contain only letters, digits, - and _",
    METRIC: "must be recall, precision, ndcg, hit_rate or mrr at a K, such as recall@20",
    ENDPOINT: "must be a URL without a path, such as https://storage.example.com:9000",
}


def worded(problem: Mapping[str, Any]) -> str:
    """The rule that a value breaks.

    Args:
        problem: one of ``ValidationError.errors()``.
    """
    context: Mapping[str, Any] = problem.get("ctx", {})
    if problem["type"] == "string_pattern_mismatch":
        return PATTERNS[context["pattern"]]
    if problem["type"] == "literal_error":
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    if problem["type"] == "too_short":
        least = context["min_length"]
        return f"must have at least {least} {'entry' if least == 1 else 'entries'}"
    if problem["type"] in WORDS:
        return WORDS[problem["type"]].format_map(context)
    # An error of our own, which is in plain words already.
    message: str = problem["msg"]
    return f"{message[0].lower()}{message[1:]}"


def alternatives(rules: Iterable[str]) -> str:
    """Rules of which one has to hold, in one sentence: "must be a whole number or auto"."""
    first, *others = dict.fromkeys(rules)
    start = next((s for s in ("must be ", "must ") if all(o.startswith(s) for o in (first, *others))), "")
    return " or ".join((first, *(other.removeprefix(start) for other in others)))
