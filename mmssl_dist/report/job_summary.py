"""A job and its raw files in a few lines: what ``validate`` shows."""

from __future__ import annotations

from mmssl_dist.config import Job
from mmssl_dist.config.data_sections import Modality
from mmssl_dist.data.readers.last_block import READ_THROUGH_BYTES
from mmssl_dist.launch.input_check import InputOverview
from mmssl_dist.report.progress import count, dataset_summary


def description(job: Job) -> str:
    """Where, what, how and on how many workers."""
    split = job.data.split
    shares = f" {split.validation:g}/{split.test:g}" if split.method in ("ratio", "temporal") else ""
    lines = {
        "output": job.output,
        "data": f"{job.data.path} ({job.data.layout}), split {split.method}{shares}",
        "modalities": ", ".join(
            f"{name} ({_origin(modality)})" for name, modality in job.data.modalities.items()
        ),
        "partition": f"{job.partition.parts} parts, {job.partition.method}",
        "model": f"D {job.model.dimension}, {job.model.layers} layers",
        "training": f"at most {job.training.epochs} epochs, {job.training.batch_size} pairs a step, "
        f"stops on {job.evaluation.metric}",
        "scaling": f"{_workers(job)} worker(s), {job.scaling.cpus_per_worker} CPU and "
        f"{job.scaling.gpus_per_worker} GPU each",
        "seed": str(job.seed),
    }
    return "\n".join(f"{name + ':':<12} {text}" for name, text in lines.items())


def _origin(modality: Modality) -> str:
    if modality.features:
        return f"{', '.join(modality.features)} of {modality.table}"
    if modality.encoder is None:
        return str(modality.file)
    content = modality.files or f"{', '.join(modality.columns)} of {modality.table}"
    return f"{content}, embedded by {modality.encoder}"


def input_lines(overview: InputOverview) -> list[str]:
    """What was read of the raw files: rows, types of ids, times, and how many items have each modality."""
    if overview.whole:
        lines = [f"data: {line}" for line in dataset_summary(overview.facts)]
        lines.append("read: every row, as prepare does")
    else:
        features = ", ".join(
            f"{name} {modality.dimension} wide, {count(modality.items)} vectors"
            if modality.dimension
            else f"{name} (to be embedded) for {count(modality.items)} items"
            for name, modality in overview.features.items()
        )
        lines = [
            f"data: ids: {overview.user_id_type} of users, {overview.item_id_type} of items",
            f"data: features: {features}",
            f"read: the first and last block of each file{_left_out(overview)}, "
            f"{count(overview.interactions)} interactions; prepare reads every row",
        ]
    if overview.times is not None:
        low, high = overview.times
        # The last line says what was read.
        lines.insert(-1, f"data: times: {low} to {high}")
    return lines


def _left_out(overview: InputOverview) -> str:
    if not overview.left_out:
        return ""
    files = f"{count(overview.left_out)} compressed file(s) beyond {READ_THROUGH_BYTES:,} bytes"
    return f", of {files} the first block"


def _workers(job: Job) -> str:
    scaling = job.scaling
    return str(scaling.most) if scaling.fewest == scaling.most else f"{scaling.fewest} to {scaling.most}"
