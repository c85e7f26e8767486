"""What embeddings are made from, and where their files are; needs neither Ray nor an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import needed_buckets, with_buckets
from mmssl_dist.data.files import RawFile, RawFiles
from mmssl_dist.embedding.table_fit import DEFINITION, TableFit
from mmssl_dist.embedding.weights import EncoderSource, stamp
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Manifest, RunFolder, fingerprint

EMBEDDINGS_KIND = "embeddings"
FORMAT = 2  # since 2: transparent pictures on white, and all 16 bits of grey
"""Raise when the same input would give other embeddings."""
TABULAR_FORMAT = 2
"""The same of columns of features."""
_SETTING = "training.start_from"
_READ = {"encoder", "revision", "dimension", "table", "columns", "files", "item"}
_READ_OF_TABLES = {"table", "item", *DEFINITION}


def has_content(job: Job) -> bool:
    """Whether the stage embed makes vectors of a modality of ``job``."""
    return any(modality.has_content for modality in job.data.modalities.values())


def encoded(job: Job) -> list[str]:
    """The modalities that an encoder makes vectors of."""
    return [name for name, modality in job.data.modalities.items() if modality.encoder is not None]


def tabular(job: Job) -> list[str]:
    """The modalities that are columns of a table."""
    return [name for name, modality in job.data.modalities.items() if modality.features]


def encoder_of(job: Job, modality: str) -> EncoderSource:
    """The encoder of a modality that has one."""
    settings = job.data.modalities[modality]
    assert settings.encoder is not None
    return EncoderSource(f"data.modalities.{modality}.encoder", settings.encoder, settings.revision)


def with_content_buckets(job: Job, raw: RawFiles) -> Job:
    """``job`` with a number of buckets for the content of ``raw`` where ``data.buckets`` is auto.

    It is a power of two, so that it seldom changes as content is added, and then by a factor: vectors of the
    artifact before are found in few of its files.
    """
    largest = max(sum(file.size for file in content.tables) for content in raw.content.values())
    return with_buckets(job, 1 << (needed_buckets(0, largest) - 1).bit_length())


def embeddings_fingerprint(job: Job, raw: RawFiles) -> str:
    """Equal for equal embeddings: content and encoders by name, size and time of their files, fits that are
    taken over, and settings that the vectors depend on. Raises as ``fits_of_start``."""
    modalities: dict[str, list[Any]] = {
        name: [
            job.data.modalities[name].model_dump(mode="json", include=_READ),
            raw.content[name].stamp(),
            stamp(encoder_of(job, name), job.storage),
        ]
        for name in encoded(job)
    }
    fits = fits_of_start(job)
    for name in tabular(job):
        settings = job.data.modalities[name].model_dump(mode="json", include=_READ_OF_TABLES)
        if settings["decimal"] == ".":
            del settings["decimal"]  # so that fingerprints made before the setting stay
        # Dimensions follow the order of columns, which a mapping's fingerprint does not have.
        order = list(fits[name].columns if name in fits else settings["features"])
        stamps = [TABULAR_FORMAT, settings, list(job.data.columns.null_values), raw.content[name].stamp()]
        modalities[name] = [*stamps, order, fits[name].facts() if name in fits else None]
    buckets = with_content_buckets(job, raw).data.buckets
    return fingerprint(
        EMBEDDINGS_KIND, FORMAT, modalities, job.embedding.max_pixels, buckets, job.data.columns.types.item
    )


def fits_of_start(job: Job) -> dict[str, TableFit]:
    """Fits of the run that ``training.start_from`` names, by modality: its weights are for their dimensions.

    Raises:
        InputError: it has no such modality, or one of other columns; names all of them.
    """
    start, names = job.training.start_from, tabular(job)
    if start is None or not names:
        return {}
    manifest = RunFolder.at(start, job.storage).embeddings.read()
    if manifest is None:
        # That run may be removed once this one has ended; what was taken over is in our own manifest then.
        own = RunFolder.of(job).embeddings.read()
        manifest = own if own is not None and own.facts.get("start") == start else None
    modalities = {} if manifest is None else manifest.facts["modalities"]
    lacking = [name for name in names if "fit" not in modalities.get(name, {})]
    if lacking:
        raise InputError(
            _SETTING,
            f"{start}, whose embeddings have no features of {', '.join(lacking)}",
            "columns of features are encoded as in the run that a training starts from",
            f"Train without {_SETTING}, or start from another run.",
        )
    fits = {name: TableFit.of_facts(modalities[name]["fit"]) for name in names}
    differing = list(_other_columns(job, fits))
    if differing:
        raise InputError(
            _SETTING,
            "; ".join(differing),
            "columns of features are those of the run that a training starts from",
            f"Train without {_SETTING}, or start from another run.",
        )
    return fits


def _other_columns(job: Job, fits: Mapping[str, TableFit]) -> Iterator[str]:
    """The modalities whose columns, in any order, are not those of their fits."""
    for name, fit in fits.items():
        own = job.data.modalities[name].features
        earlier = {column: one.feature_type for column, one in fit.columns.items()}
        if own != earlier:
            shown, other = (
                ", ".join(f"{column}: {feature_type}" for column, feature_type in columns.items())
                for columns in (own, earlier)
            )
            yield f"data.modalities.{name}.features {{{shown}}}, where the earlier run has {{{other}}}"


def embedded_files(job: Job, raw: RawFiles, embeddings: Manifest) -> RawFiles:
    """``raw`` with the vectors of the published embeddings in place of raw content."""
    location = RunFolder.of(job).embeddings.location
    features = {
        name: raw.features[name]
        if name in raw.features
        else tuple(
            RawFile(location=location / file, size=record.bytes, modified=None, digest=record.sha256)
            for file, record in sorted(embeddings.files.items())
            if file.startswith(f"{name}/")
        )
        for name in job.data.modalities
    }
    return replace(raw, features=features, content={})
