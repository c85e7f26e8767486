"""Reads what evaluate published of each user: one metric of one split, in the order of the users' ids."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmssl_dist.data.columns import HELD_OUT_DIGEST, SPLIT, USER_ID
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.evaluation.user_columns import POSITIVES, USERS, WHO
from mmssl_dist.storage import Location, RunFolder

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UserValues:
    """One metric of each user with held-out items.

    Attributes:
        url: the run's, for messages.
        ids: [n] external ids, ascending.
        positives: int32 [n] held-out items.
        values: float64 [n].
        held_out_digest: of which items are held out for whom, None where its evaluation does not say.
    """

    url: str
    ids: pa.Array
    positives: np.ndarray
    values: np.ndarray
    held_out_digest: str | None


def read_users(run: Location, metric: str, split: str, who: str) -> UserValues:
    """``metric`` of each user of ``split`` in an evaluated run, as ranked by ``who``.

    Raises:
        InputError: the run has no such files, metric or split.
        ArtifactError: a file is not what the manifest says.
    """
    folder = RunFolder(run).evaluation
    evaluation, manifest = folder.location, folder.require()
    names = sorted(name for name in manifest.files if name.startswith(f"{USERS}/"))
    if not names:
        raise InputError(
            evaluation.url,
            "no metrics by user",
            "runs are compared user by user",
            "Run `mmssl-dist evaluate` on the job with this version.",
        )
    tables = []
    for name in names:
        content = (evaluation / name).read_bytes()
        # Read once, checked and parsed from the same bytes: the file may be replaced in between
        if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
            raise ArtifactError(f"{evaluation.url}/{name}: not what the manifest says. Run evaluate --force.")
        file = pq.ParquetFile(pa.BufferReader(content))
        if metric not in file.schema_arrow.names or "@" not in metric:
            metrics = ", ".join(column for column in file.schema_arrow.names if "@" in column)
            raise InputError(
                "--metric",
                metric,
                f"{run.url} has {metrics}",
                "Choose one of these, or evaluate with other `evaluation.ks`.",
            )
        table = file.read([USER_ID, SPLIT, WHO, POSITIVES, metric])
        tables.append(table.filter((pc.field(SPLIT) == split) & (pc.field(WHO) == who)))
    table = pa.concat_tables(tables).sort_by(USER_ID)
    if not len(table):
        raise InputError(
            "--split",
            split,
            f"{run.url} has no users with held-out items there",
            "Choose the other one of validation and test.",
        )
    ids = table[USER_ID].combine_chunks()
    digest = manifest.facts.get(HELD_OUT_DIGEST)
    return UserValues(
        url=run.url,
        ids=ids,
        positives=table[POSITIVES].to_numpy(),
        values=table[metric].to_numpy().astype(np.float64),
        held_out_digest=digest if isinstance(digest, str) else None,
    )


def require_same_users(first: UserValues, other: UserValues) -> None:
    """Check that both are of the same users with the same held-out items.

    Raises:
        InputError: they are not, so nothing pairs them.
    """
    rule = f"runs are paired by user, so users and held-out items must be those of {first.url}"
    remedy = "Compare runs of the same data and the same split."
    if first.ids.type != other.ids.type or not first.ids.equals(other.ids):
        if first.held_out_digest is not None and first.held_out_digest == other.held_out_digest:
            # The same data and split, so only the users that were drawn can differ
            remedy = (
                "Evaluate both with evaluation.users all: users are drawn by their place in the partitions."
            )
        raise InputError(
            other.url, f"different users ({len(other.ids)} here, {len(first.ids)} there)", rule, remedy
        )
    differing = int((first.positives != other.positives).sum())
    if differing:
        raise InputError(
            other.url, f"a different number of held-out items for {differing} users", rule, remedy
        )
    unknown = next((run.url for run in (first, other) if run.held_out_digest is None), None)
    if unknown is not None:
        _logger.warning(
            "%s: its evaluation has no held_out_digest, so only the number of held-out items is compared; "
            "prepare and evaluate with --force to compare the items themselves",
            unknown,
        )
    elif first.held_out_digest != other.held_out_digest:
        raise InputError(
            other.url,
            f"different held-out items (held_out_digest {other.held_out_digest} here, "
            f"{first.held_out_digest} there)",
            rule,
            remedy,
        )
