"""Distributed training of multi-modal self-supervised recommenders (MMSSL, WWW 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        url: folder or s3:// URL.
        storage: how s3:// is reached, as the ``storage`` section of a job.
        items: Parquet, CSV or TSV with the items' ids, titles in a column ``title``, and columns to filter
            by; by default the titles that the run's job names.

    Raises:
        InputError: nothing is exported there, there is no such file, or a storage setting is wrong.
        ArtifactError: what is there does not belong together, or another version made it.
    """
    from mmssl_dist.config.load import parse_storage
    from mmssl_dist.serving.titled_run import open_titled_run

    return open_titled_run(url, parse_storage(storage or {}), items)
