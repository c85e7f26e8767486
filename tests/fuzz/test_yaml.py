"""Jobs changed at random: each is a job that reads back the same, or one message on lines that can be
shown."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config import load_job, parse_job
from mmssl_dist.errors import InputError
from tests.fuzz.amount import amount

JOB = parse_job(
    {
        "output": "runs/x",
        "data": {
            "path": "raw",
            "modalities": {"image": {"file": "image.npy"}, "text": {"file": "text.parquet"}},
        },
    }
).model_dump(mode="json")
LEAST = yaml.safe_dump(JOB, sort_keys=False)
_NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31 - 1, 2**31, 2**63, 10**300, 1e308, 5e-324, -0.0])
)
_TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "all", "1", "true", "${HOME}", "!!x", "../x", "~", "\x85", "\0"]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | _NUMBERS
    | _TEXTS
    | st.binary(max_size=4)
    | st.sampled_from([datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 12)])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(_TEXTS | _SCALARS, child, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_jobs(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """The whole job with one to four of its values replaced, removed, renamed or joined by another."""
    tree: dict[str, Any] = yaml.safe_load(LEAST)
    for _ in range(draw(st.integers(1, 4))):
        section = tree
        while True:
            key = draw(st.sampled_from(sorted(section, key=repr)))
            if not isinstance(section[key], dict) or not section[key] or draw(st.integers(0, 4)) == 0:
                break
            section = section[key]
        change = draw(st.sampled_from(["replace", "remove", "rename", "join"]))
        if change == "replace":
            section[key] = draw(_VALUES)
        elif change == "rename":
            section[draw(_TEXTS)] = section.pop(key)
        elif change == "join":
            section[draw(_TEXTS)] = draw(_VALUES)
        elif len(section) > 1:
            del section[key]
    return tree


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "job.yaml"


def is_a_job_or_refused(file: Path, text: str) -> None:
    file.write_bytes(text.encode(errors="surrogatepass"))
    try:
        job = load_job(file)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        lines = refused.split("\n")
        assert lines[0].startswith(str(file))
        assert all(line.startswith("  ") and (": " in line or "more" in line) for line in lines[1:])
        assert all(line.isprintable() for line in lines)
        assert len(refused) < 60_000
        return
    assert parse_job(job.model_dump(mode="json")) == job
    assert parse_job(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


@amount
@given(changed_jobs())
def test_a_changed_tree(file: Path, tree: dict[str, Any]) -> None:
    is_a_job_or_refused(file, yaml.dump(tree, sort_keys=False, allow_unicode=True))


@amount
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LEAST)),
            st.integers(0, 9),
            st.text("abo:-[]{}!&*|>'\"#%@,. \n\t?<=1e~\0\x85\x1b\ud800\ufeff", max_size=6),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_changed_text(file: Path, edits: list[tuple[int, int, str]]) -> None:
    text = LEAST
    for offset, removed, added in edits:
        text = text[:offset] + added + text[offset + removed :]
    is_a_job_or_refused(file, text)


@amount
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_anchors_and_aliases(file: Path, links: list[tuple[int, int, bool]]) -> None:
    lines = [
        f"a{n}: &a{own} {{<<: *a{other}}}" if merge else f"a{n}: &a{own} [*a{other}, *a{other}]"
        for n, (own, other, merge) in enumerate(links)
    ]
    anchors = [f"z{n}: &a{n} {{x: 1}}" for n in range(7)]
    is_a_job_or_refused(file, "\n".join([LEAST, *anchors, *lines]))
