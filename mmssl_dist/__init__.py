"""Distributed training of multi-modal self-supervised recommenders (MMSSL, WWW 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmssl_dist.serving.run import Run

__version__ = "0.2.0"


def open_run(url: str, storage: Mapping[str, object] | None = None) -> Run:
    """The exported run whose job has the output ``url``: embeddings, recommendations and similar items in
    your ids.

    Args:
        url: folder or s3:// URL.
        storage: how s3:// is reached, as the ``storage`` section of a job.

    Raises:
        InputError: nothing is exported there, or a storage setting is wrong.
        ArtifactError: what is there does not belong together, or another version made it.
    """
    from mmssl_dist.config.load import parse_storage
    from mmssl_dist.serving.run import open_run as open_it

    return open_it(url, parse_storage(storage or {}))
