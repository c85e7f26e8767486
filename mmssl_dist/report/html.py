"""Writes ``report.html`` of a run, unless the one that is there is known to be made from the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmssl_dist import __version__
from mmssl_dist.config import Job
from mmssl_dist.config.model_name import model_name
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import TEST, VALIDATION
from mmssl_dist.data.files import ITEM_PLACE, find_images, find_titles
from mmssl_dist.data.images import read_images
from mmssl_dist.data.titles import read_titles
from mmssl_dist.embedding.inputs import EMBEDDINGS_KIND, has_content
from mmssl_dist.errors import InputError
from mmssl_dist.evaluation.user_columns import MODEL, POPULARITY
from mmssl_dist.report.list_quality import UserExample, measure_lists
from mmssl_dist.report.page import page, stamp_of
from mmssl_dist.report.paired import interval, resampled_means
from mmssl_dist.report.progress import duration, size
from mmssl_dist.report.report_content import FactsByStage, ItemLabels, ReportContent, Uplift
from mmssl_dist.report.tables import cutoff
from mmssl_dist.report.user_metrics import read_users
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import Location, RunFolder, StageFolder, fingerprint, open_location
from mmssl_dist.storage.manifest import MANIFEST
from mmssl_dist.storage.run_job import read_run_job
from mmssl_dist.tracking.description import shareable

REPORT = "report.html"
_FORMAT = 6  # since 6: the job without passwords
# Fewer for many users: a resample takes time in proportion to them, and their mean varies less.
_RESAMPLES, _FEWER_RESAMPLES, _MANY_USERS = 1000, 200, 200_000
_LISTS = {"partitions", "export"}  # what the exported lists are read with
_PACKAGES = ("torch", "ray", "dgl", "deepspeed", "faiss-cpu", "pyarrow", "numpy")


def write_report(url: str, storage: Storage) -> str:
    """Write a report of what a run has published beside its artifacts; returns its URL.

    Raises:
        InputError: the run has published nothing, or the titles or images of items that the job names cannot
            be read.
        ArtifactError: a file is not what its manifest says.
    """
    output = open_location(url, storage)
    stages = tuple(RunFolder(output).stages())
    published = {stage.kind: stage.read() for stage in stages}
    manifests = {artifact: manifest for artifact, manifest in published.items() if manifest is not None}
    if not manifests:
        raise InputError(
            output.url,
            "no published artifact",
            "a report shows what a run has published",
            "Name the output of a job, or run `mmssl-dist run` on it.",
        )
    job = read_run_job(output)
    titles, images = find_titles(job), find_images(job)
    text = (output / "job.yaml").read_bytes().decode()
    stamp = fingerprint(
        "report",
        _FORMAT,
        __version__,
        text,
        {artifact: m.fingerprint for artifact, m in manifests.items()},
        [(file.name, file.size, file.modified) for file in (*titles, *images)],
    )
    target = output / REPORT
    # Images named one by one are looked up for the items shown only, so whether they changed is not known
    images_known = ITEM_PLACE not in (job.data.images or "")
    if images_known and target.exists() and stamp_of(target.read_bytes().decode(errors="replace")) == stamp:
        return target.url
    facts = {artifact: manifest.facts for artifact, manifest in manifests.items()}
    metric = facts.get("training", {}).get("metric", job.evaluation.metric)
    lists = None
    if _LISTS <= manifests.keys():
        lists = measure_lists(open_run(url, storage), cutoff(metric))
    items = [item for example in (lists.examples if lists else []) for item in _items_of(example)]
    content = ReportContent(
        title=_name(output),
        about=_about(job, facts, _finished(stage for stage in stages if stage.kind in manifests)),
        uplift=_uplift(output, metric, facts.get("evaluation", {})),
        model=model_name(job),
        facts=facts,
        missing=[
            stage.command
            for stage in stages
            if stage.kind not in manifests and (stage.kind != EMBEDDINGS_KIND or has_content(job))
        ],
        lists=lists,
        labels=ItemLabels(read_titles(job.data, titles, items), read_images(job, images, items)),
        job=shareable(text),  # a report is passed on
        versions=_versions(),
        stamp=stamp,
    )
    target.write_bytes(page(content).encode())
    return target.url


def _name(output: Location) -> str:
    """The last folder of a run's path, or the one above where that is just called output."""
    parts = PurePosixPath(output.path).parts
    return parts[-2] if parts[-1] == "output" and len(parts) > 1 else parts[-1]


def _finished(stages: Iterable[StageFolder]) -> datetime | None:
    """When the last of them was published; None where the storage does not say."""
    times = ((stage.location / MANIFEST).info().mtime for stage in stages)
    return max((time for time in times if time is not None), default=None)


def _items_of(example: UserExample) -> tuple[Any, ...]:
    return (*example.history, *example.recommended, *example.popular)


def _about(job: Job, facts: FactsByStage, published: datetime | None) -> str:
    """The data set, when the run was finished, how long it trained and where, and with which version."""
    parts = [f"data set {'/'.join(PurePosixPath(job.data.path).parts[-2:])}"]
    dataset = facts.get("dataset", {})
    period = dataset.get("period", dataset.get("window", {}))
    if all(time.endswith("Z") for time in period.values()) and period:  # numbers of another kind say little
        parts.append(f"interactions from {_day(period['from'])} to {_day(period['to'])}")
    if published is not None:
        parts.append(f"{published:%Y-%m-%d}")
    if "training" in facts:
        history = facts["training"]["history"]
        ends = pairwise([0, *(entry["epoch"] for entry in history)])
        # An entry has the mean of the epochs since the one before.
        seconds = sum(entry["train_seconds"] * (b - a) for entry, (a, b) in zip(history, ends, strict=True))
        seconds += sum(entry["validation_seconds"] for entry in history)
        parts.append(f"trained for {duration(seconds)}{_machine(facts['training'])}")
    return ", ".join((*parts, f"mmssl-dist {__version__}"))


def _day(timestamp: str) -> str:
    return timestamp.partition("T")[0]


def _machine(training: Mapping[str, Any]) -> str:
    """By how many workers a training was done, on what; empty for one of an earlier version."""
    if "machine" not in training:
        return ""
    machine = training["machine"]
    workers = "one worker" if machine["workers"] == 1 else f"{machine['workers']} workers"
    gpu = f", {machine['gpu']}" if machine["gpu"] else ", no GPU"
    return f" by {workers} (machine: {machine['cores']} cores, {size(machine['memory'])} of memory{gpu})"


def _uplift(output: Location, metric: str, metrics: Mapping[str, Any]) -> Uplift | None:
    """The metric of the model over that of popularity; None where the evaluation has no metrics of users."""
    split = TEST if TEST in metrics else VALIDATION
    try:
        values = [read_users(output, metric, split, who).values for who in (MODEL, POPULARITY)]
    except InputError:  # an evaluation of an earlier version, or none
        return None
    users = np.stack(values)
    if not users[1].mean() > 0:
        return None
    resampled = resampled_means(users, _RESAMPLES if users.shape[1] <= _MANY_USERS else _FEWER_RESAMPLES)
    # In a resample popularity may find nothing, and nothing is divided by zero.
    ratios = resampled[:, 0] / np.maximum(resampled[:, 1], np.finfo(float).tiny)
    low, high = interval(ratios - 1)
    return Uplift(float(users[0].mean() / users[1].mean()) - 1, low, high)


def _versions() -> dict[str, str]:
    versions = {"mmssl-dist": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed here"
    return versions
