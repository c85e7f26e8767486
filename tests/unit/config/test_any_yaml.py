"""Whatever a YAML holds, it is a job or refused with a message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config import Job, parse_job
from mmssl_dist.errors import InputError
from tests.unit.config.trees import SMALL

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
)


KEYS = (
    st.sampled_from(
        [
            "output",
            "data",
            "path",
            "modalities",
            "image",
            "file",
            "split",
            "method",
            "scaling",
            "workers",
            "partition",
            "parts",
            "model",
            "layers",
            "training",
            "fanout",
            "losses",
            "adversarial",
            "candidates",
            "evaluation",
            "ks",
            "metric",
            "storage",
            "endpoint",
            "seed",
        ]
    )
    | SCALARS
)


TREES = st.recursive(
    SCALARS,
    lambda child: st.lists(child, max_size=4) | st.dictionaries(KEYS, child, max_size=6),
    max_leaves=20,
)


def refusal(tree: object, *overrides: str) -> str | None:
    """What ``parse_job`` says, or None where it takes the tree; any other exception is a failure."""
    try:
        assert isinstance(parse_job(tree, overrides), Job)
    except InputError as error:
        return str(error)
    return None


@given(TREES)
def test_any_tree_is_a_job_or_an_input_error(tree: object) -> None:
    assert refusal(tree) != ""


@given(st.dictionaries(st.sampled_from(sorted(Job.model_fields)), TREES, max_size=5))
def test_any_sections_beside_good_ones_give_a_job_or_an_input_error(sections: dict[str, object]) -> None:
    result = refusal({**SMALL, **sections})
    assert result is None or all(": " in line for line in result.splitlines())


@given(st.text(alphabet="abo:-[]{}!&*|>'\"#%@,. \n\t?<=1e~\0\x85", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_job_or_an_input_error(text: str) -> None:
    assert refusal(SMALL, f"seed={text}") != ""
    assert refusal(SMALL, text) != ""
