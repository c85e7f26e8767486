"""The run that a training starts from: found, checked against the job, and read part by part."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmssl_dist.config import Job
from mmssl_dist.embedding.table_fit import DEFINITION
from mmssl_dist.errors import ArtifactError, ConfigError, InputError
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import FeatureMap, load_feature_map, load_ids, read_book
from mmssl_dist.launch.published_checkpoint import checkpoint_of
from mmssl_dist.storage import Location, Manifest, RunFolder
from mmssl_dist.storage.run_job import read_run_job

_logger = logging.getLogger(__name__)

START_FROM = "training.start_from"
_REMEDY = f"Train without {START_FROM}, or start from another run."
# What the shapes of rows and of dense weights follow from
_SHAPING = (
    "model.dimension",
    "model.feature_columns",
    "model.modality_graph.size",
    "model.heads",
    "training.rows.second_moment",
)


@dataclass(frozen=True)
class EarlierRun:
    """A trained run.

    Attributes:
        folder: its output.
        partitions, training: the manifests of its graph and of its training; file names of ``training`` are
            those below ``checkpoint``.
        checkpoint: the folder of its best checkpoint.
    """

    folder: RunFolder
    partitions: Manifest
    training: Manifest
    checkpoint: Location

    @property
    def book(self) -> PartitionBook:
        """Its nodes by partition."""
        return read_book(self.partitions)

    def ids(self, part: int, cache: Path) -> tuple[pa.Array, pa.Array]:
        """External ids of the users and of the items of ``part``, in the order of its rows."""
        return load_ids(self.folder.partitions.location, self.partitions, part, cache)

    def feature_maps(self, modalities: Sequence[str], cache: Path) -> dict[str, FeatureMap]:
        """How the features of ``modalities`` were made of raw ones."""
        location = self.folder.partitions.location
        return {m: load_feature_map(location, self.partitions, m, cache) for m in modalities}


def find_earlier_run(job: Job) -> EarlierRun:
    """The run that ``training.start_from`` names.

    Raises:
        InputError: no trained run is there.
    """
    assert job.training.start_from is not None
    folder = RunFolder.at(job.training.start_from, job.storage)
    partitions, training = folder.partitions.read(), folder.training.read()
    if partitions is None or training is None:
        missing = "partitions" if partitions is None else "training"
        raise InputError(
            START_FROM,
            f"{folder.root.url}, which has no published {missing}",
            "a training starts from the output of a trained run",
            _REMEDY,
        )
    # Its best checkpoint, not its last: what a run published is what its metrics are of.
    checkpoint, published = checkpoint_of(folder, training)
    return EarlierRun(folder, partitions, published, checkpoint)


def check_start(job: Job) -> None:
    """Refuse an earlier run whose rows or weights have other shapes than this job's.

    Raises:
        InputError: there is no such run, or its settings differ; names all of them.
    """
    if job.training.start_from is None:
        return
    earlier = find_earlier_run(job)
    # The job as it was run: the artifacts alone do not say with which settings their shapes came about.
    try:
        earlier_job = read_run_job(earlier.folder.root)
    except ConfigError:
        raise
    except InputError as error:
        raise InputError(START_FROM, f"{error.where}: {error.value}", error.rule, _REMEDY) from error
    differing = [*_differences(job, earlier_job), *_kept_otherwise(job, earlier.partitions)]
    if differing:
        raise InputError(START_FROM, "; ".join(differing), "both runs have rows of the same shape", _REMEDY)


def check_inputs(job: Job, id_types: tuple[str, str], widths: Mapping[str, int]) -> None:
    """Refuse an earlier run with ids of other types or features of other widths.

    Args:
        id_types: of this job's users and items.
        widths: values of its features by modality, as the data have them; those that are known.

    Raises:
        InputError: they differ; names all that do.
    """
    if job.training.start_from is None:
        return
    facts = find_earlier_run(job).partitions.facts
    differing = []
    for side, mine, other in zip(("user", "item"), id_types, id_types_of(facts, id_types), strict=True):
        if mine != other:
            differing.append(f"{side} ids of type {mine}, where the earlier run has {other}")
    earlier = widths_of(facts)
    for modality, width in widths.items():
        other_width = earlier.get(modality, width)
        if width != other_width:
            differing.append(
                f"features of {modality} with {width} values, where the earlier run has {other_width}"
            )
    if differing:
        rule = (
            "rows are taken over by id, so ids must have one type, and the projection of a modality one shape"
        )
        raise InputError(START_FROM, "; ".join(differing), rule, _REMEDY)


def id_types_of(facts: Mapping[str, Any], otherwise: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """The types of users' and items' ids in the facts of a dataset or of partitions."""
    user, item = otherwise
    return facts.get("user_id_type", user), facts.get("item_id_type", item)


def widths_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """Values of each modality's features in the facts of partitions, before they were reduced."""
    reduced = facts.get("reduced", {})
    kept = facts.get("modalities", {})
    return {modality: reduced.get(modality, {}).get("from", width) for modality, width in kept.items()}


def warn_of_overlap(job: Job) -> None:
    """Warn where the earlier run may have been trained on what this one holds out."""
    # A random split is drawn again over all interactions: training data there may be test data here.
    if job.training.start_from is not None and job.data.split.method == "ratio":
        _logger.warning(
            "the split of this run is random: interactions that it holds out may have trained %s, and "
            "metrics may be too high; with data.split.method temporal or leave_last_out they are not",
            job.training.start_from,
        )


def _differences(job: Job, other: Job) -> Iterator[str]:
    own, earlier = sorted(job.data.modalities), sorted(other.data.modalities)
    if own != earlier:
        yield f"modalities {', '.join(own)}, where the earlier run has {', '.join(earlier)}"
    else:
        for name in own:
            definitions = [_definition(one_job, name) for one_job in (job, other)]
            if definitions[0] != definitions[1]:
                yield (
                    f"data.modalities.{name} of {_shown(definitions[0])}, where the earlier run has "
                    f"{_shown(definitions[1])}"
                )
    for path in _SHAPING:
        values = [_value(one_job, path) for one_job in (job, other)]
        if values[0] != values[1]:
            yield f"{path} {values[0]}, where the earlier run has {values[1]}"


def _kept_otherwise(job: Job, earlier: Manifest) -> Iterator[str]:
    """Modalities of which this job would keep another number of dimensions, if their features are as wide as
    the earlier run's: whether they are, only prepare knows, and ``check_inputs`` looks at it then."""
    widths = widths_of(earlier.facts)
    for modality, kept in earlier.facts.get("modalities", {}).items():
        mine = job.partition.kept_dimensions(widths[modality])
        if modality in job.data.modalities and mine != kept:
            yield (
                f"partition.feature_dimensions {job.partition.feature_dimensions}, which keeps {mine} values "
                f"of {modality}, where the earlier run has {kept}"
            )


def _definition(job: Job, modality: str) -> dict[str, object]:
    """What says which dimensions a modality of columns has; empty of any other modality."""
    settings = job.data.modalities[modality]
    return settings.model_dump(include=DEFINITION) if settings.features else {}


def _shown(definition: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in definition.items()) or "no columns of features"


def _value(job: Job, path: str) -> object:
    value: object = job
    for key in path.split("."):
        value = getattr(value, key)
    return value


def shape_error(error: ArtifactError) -> InputError:
    """For weights whose shapes settings do not show."""
    return InputError(START_FROM, str(error), "both runs have dense weights of the same shapes", _REMEDY)
