"""Distributed training of multi-modal self-supervised recommenders (MMSSL, WWW 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from mmssl_dist.serving.item_filter import ItemFilter as ItemFilter
    from mmssl_dist.serving.run import Run

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    # Loaded when it is first used: importing this package alone stays quick.
    if name == "ItemFilter":
        from mmssl_dist.serving.item_filter import ItemFilter

        return ItemFilter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_run(url: str, storage: Mapping[str, object] | None = None, items: str | None = None) -> Run:
    """The exported run whose job has the output ``url``: embeddings, recommendations and similar items in
    your ids.

    Args:
        url: folder, or a URL such as s3://bucket/run or gs://bucket/run.
        storage: how object storage is reached, as the ``storage`` section of a job.
        items: Parquet, CSV, TSV or JSON lines with the items' ids, titles, and columns to filter by; the
            run's job names the first two (``data.columns``). By default the table of titles that it names.

    Raises:
        InputError: nothing is exported there, there is no such file, or a storage setting is wrong.
        ArtifactError: what is there does not belong together, or another version made it.
    """
    from mmssl_dist.config.load import parse_storage
    from mmssl_dist.serving.titled_run import open_titled_run

    return open_titled_run(url, parse_storage(storage or {}), items)


def run(
    job: str | os.PathLike[str] | Mapping[str, object],
    overrides: Sequence[str] = (),
    address: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> Run:
    """Run a job as `mmssl-dist run` does, and open what it made.

    Stages whose published output matches their inputs are skipped. Without ``address`` a Ray is started on
    this machine, and ended.

    Args:
        job: path of the job's YAML, or what stands in it.
        overrides: settings that replace the job's, such as "training.epochs=3".
        address: Ray cluster to run on, host:port or auto; by default RAY_ADDRESS, if it is set.
        force: repeat the work even if the published output matches the job.
        progress: write progress to stderr.

    Raises:
        InputError: the job, or its raw files, are wrong.
        MmsslError: what else a stage met.
    """
    from importlib import import_module

    # By name, since a service imports this package for its version and none of what trains.
    run_from_python = import_module("mmssl_dist.pipeline.python_run").run_from_python
    return open_run(*run_from_python(job, overrides, address=address, force=force, progress=progress))
