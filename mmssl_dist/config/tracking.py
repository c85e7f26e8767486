"""The ``tracking`` section: trackers that a run reports to."""

from __future__ import annotations

from typing import Annotated, Literal
from unicodedata import category

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mmssl_dist.config.section import Section, Text

_LONGEST_NAME = 255  # bytes: a model is a folder of this name in MLflow's file store
_LONGEST_PROJECT = 128


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


def _is_project(value: str) -> str:
    *entity, project = value.split("/")
    # W&B refuses these in names of projects, and longer ones.
    refused = any(letter in "\\#?%:" or category(letter).startswith("C") for letter in value)
    blank = not all(part.strip() for part in (*entity, project))
    if refused or blank or len(entity) > 1 or len(project) > _LONGEST_PROJECT:
        raise PydanticCustomError(
            "project",
            "must be PROJECT or ENTITY/PROJECT, without \\ # ? % : and control characters and with at most "
            "128 letters in the project's name, as W&B takes it. Choose another",
            {},
        )
    return value


ModelName = Annotated[Text, AfterValidator(_is_model_name)]
Project = Annotated[Text, AfterValidator(_is_project)]


class Tracking(Section):
    """TensorBoard's event files are always written; a run reports to MLflow and Weights & Biases where they
    are named."""

    mlflow: Text | None = None
    """MLflow's tracking URI: a server (https://...), sqlite:///file or a folder; needs the extra
    ``tracking``."""
    experiment: Text = "mmssl-dist"
    """Name of the MLflow experiment that the run belongs to."""
    registered_model: ModelName | None = None
    """Name of a model in MLflow's registry: `run` makes the exported run a version of it. Without
    / : % ' " and control characters, and with no dot in front."""
    wandb: Project | None = None
    """Weights & Biases project: `PROJECT` or `ENTITY/PROJECT`; needs the extra ``wandb``. The API key
    comes from WANDB_API_KEY or ~/.netrc, never from here."""
    wandb_mode: Literal["online", "offline"] = "online"
    """`offline` writes to ``wandb/`` below the output at the end of `run`, for ``wandb sync``."""
