"""What embeddings are made from, and where their files are; needs neither Ray nor an encoder."""

from __future__ import annotations

from dataclasses import replace

from mmssl_dist.config.job import Job
from mmssl_dist.data.bucket_count import needed_buckets, with_buckets
from mmssl_dist.data.files import RawFile, RawFiles
from mmssl_dist.embedding.weights import EncoderSource, stamp
from mmssl_dist.storage import Manifest, RunFolder, fingerprint

KIND = "embeddings"
FORMAT = 1
"""Raise when the same input would give other embeddings."""
_READ = {"encoder", "revision", "dimension", "table", "columns", "files", "item"}


def has_content(job: Job) -> bool:
    """Whether a modality of ``job`` is embedded from raw content."""
    return any(modality.encoder is not None for modality in job.data.modalities.values())


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
    """Equal for equal embeddings: content and encoders by name, size and time of their files, and settings
    that the vectors depend on."""
    modalities = {
        name: [
            job.data.modalities[name].model_dump(mode="json", include=_READ),
            content.stamp(),
            stamp(encoder_of(job, name), job.storage),
        ]
        for name, content in raw.content.items()
    }
    buckets = with_content_buckets(job, raw).data.buckets
    return fingerprint(
        KIND, FORMAT, modalities, job.embedding.max_pixels, buckets, job.data.columns.types.item
    )


def embedded_files(job: Job, raw: RawFiles, embeddings: Manifest) -> RawFiles:
    """``raw`` with the vectors of the published embeddings in place of raw content."""
    location = RunFolder.of(job).embeddings.location
    features = {
        name: raw.features[name]
        if name in raw.features
        else tuple(
            RawFile(location / file, record.bytes, None, digest=record.sha256)
            for file, record in sorted(embeddings.files.items())
            if file.startswith(f"{name}/")
        )
        for name in job.data.modalities
    }
    return replace(raw, features=features, content={})
