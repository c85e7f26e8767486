"""A proposed job as commented YAML, for people to read and change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import yaml

from mmssl_dist.config.data_sections import Partition
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.training_sections import Training
from mmssl_dist.datasets.job_proposal import JobProposal
from mmssl_dist.errors import message_text

_LINE_ENDS = frozenset("\x85\u2028\u2029")
"""Characters that YAML takes for ends of lines and folds, so they have to be escaped."""


def job_text(
    proposal: JobProposal, *, path: str, output: str, storage: Storage, unknown_items: str | None
) -> str:
    """The job's YAML.

    Args:
        proposal: what it reads.
        path: folder or URL of the raw files.
        output: folder or URL to publish to.
        storage: how object storage is reached.
        unknown_items: what becomes of items without features; None for the default.
    """
    parts = Partition.model_fields["parts"].default
    epochs, batch = (Training.model_fields[name].default for name in ("epochs", "batch_size"))
    lines = [
        f"# Written by `mmssl-dist init {message_text(path)}` from the headers of its files.",
        "# docs/settings.md describes every setting. Next: mmssl-dist validate, then mmssl-dist run.",
        "",
        f"output: {_value(output)}  # folder or URL (s3://, gs://, abfs://); every stage publishes below it",
        "",
        "data:",
        f"  path: {_value(path)}",
        *_data(proposal, unknown_items),
        "",
        f"partition: {{parts: {parts}}}  # at least as many as the workers you will ever want",
        f"# training: {{epochs: {epochs}, batch_size: {batch}}}  # these are the defaults",
        "scaling: {workers: 1}  # `mmssl-dist plan` estimates memory, time and cost",
    ]
    if storage.model_fields_set:
        lines.append(f"storage: {_value(storage.model_dump(mode='json', exclude_unset=True))}")
    for name, reason in proposal.unused.items():
        lines.append(f"# Not used: {message_text(name)}: {message_text(reason)}")
    return "\n".join(lines) + "\n"


def _data(proposal: JobProposal, unknown_items: str | None) -> Iterator[str]:
    if proposal.layout != "table":
        yield f"  layout: {proposal.layout}"
    if proposal.interactions is None:
        yield f"  # {message_text(proposal.interactions_remark)}"
    else:
        remark = message_text(proposal.interactions_remark)
        yield f"  interactions: {_value(proposal.interactions)}  # {remark}"
    if proposal.columns:
        yield f"  columns: {_value(proposal.columns)}"
    yield "  modalities:"
    for name, features in proposal.modalities.items():
        yield f"    {_value(name)}: {_value(features.settings)}  # {message_text(features.remark)}"
    for name, features in proposal.further.items():
        yield f"    # {_value(name)}: {_value(features.settings)}  # remove the first # to add these features"
    if proposal.titles is not None:
        yield f"  titles: {_value(proposal.titles)}  # shown by the report"
    if proposal.images is not None:
        yield f"  images: {_value(proposal.images)}  # shown by the report"
    others = [method for method in proposal.split_choices if method != proposal.split]
    also = f"  # or {', '.join(others)}" if others else ""
    yield f"  split: {{method: {proposal.split}}}{also}"
    if unknown_items is not None:
        yield f"  unknown_items: {unknown_items}  # items without features: drop or keep them"
    yield "  # min_interactions: 5  # drops users and items with fewer interactions, repeatedly"


def _value(value: str | Mapping[str, object]) -> str:
    """A value as YAML on one line."""
    # In a list, since PyYAML ends a plain value at the top level with a line of dots.
    listed = [dict(value) if isinstance(value, Mapping) else value]
    dump = partial(yaml.safe_dump, default_flow_style=True, sort_keys=False, width=float("inf"))
    text = str(dump(listed, allow_unicode=True))
    if not _LINE_ENDS.isdisjoint(text):
        text = str(dump(listed))
    return text.strip()[1:-1]
