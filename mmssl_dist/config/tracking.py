"""The ``tracking`` section: trackers that a run reports to."""

from __future__ import annotations

from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mmssl_dist.config.section import Section, Text

_LONGEST_NAME = 255  # bytes: a model is a folder of this name in MLflow's file store


def _is_model_name(value: str) -> str:
    # MLflow refuses the first three ("%" in its file store), and a quote would end the text of a search.
    if any(letter in "/:%'\"" or category(letter).startswith("C") for letter in value) or not value.strip():
        raise PydanticCustomError(
            "model_name",
            "must not be blank or have one of / : % ' \" or control characters, which MLflow's registry does "
            "not take. Write - instead",
            {},
        )
    if value.startswith(".") or len(value.encode()) > _LONGEST_NAME:
        raise PydanticCustomError(
            "model_name",
            "must be a name for a folder of MLflow's registry: at most 255 bytes, without a dot in front. "
            "Choose another",
            {},
        )
    return value


ModelName = Annotated[Text, AfterValidator(_is_model_name)]


class Tracking(Section):
    """TensorBoard's event files are always written; a run reports to MLflow where it is named."""

    mlflow: Text | None = None
    """MLflow's tracking URI: a server (https://...), sqlite:///file or a folder; needs the extra
    ``tracking``."""
    experiment: Text = "mmssl-dist"
    """Name of the MLflow experiment that the run belongs to."""
    registered_model: ModelName | None = None
    """Name of a model in MLflow's registry: `run` makes the exported run a version of it. Without
    / : % ' " and control characters, and with no dot in front."""
