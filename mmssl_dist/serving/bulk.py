"""Recommendations for a file of users, through Ray Data: an artifact, complete when its manifest is there."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mmssl_dist.cluster.connection import connect
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.data.columns import USER_ID
from mmssl_dist.data.row_operations import guarded
from mmssl_dist.data.runtime import ray_data
from mmssl_dist.errors import InputError
from mmssl_dist.serving.run import Ranked, Run, open_run
from mmssl_dist.storage import (
    FileRecord,
    Location,
    Manifest,
    begin,
    fingerprint,
    open_location,
    publish,
    read_manifest,
)
from mmssl_dist.storage.export_names import ITEMS, RECOMMENDATIONS, SCORES
from mmssl_dist.storage.paths import absolute

_BATCH = 4096  # users of one output file


@dataclass(frozen=True)
class Wish:
    """What is wanted of each user; as the arguments of ``Run.recommend``."""

    k: int
    exclude_seen: bool
    exact: bool


def recommend_file(
    url: str, storage: Storage, users: str, to: str, wish: Wish, address: str | None, debug: bool
) -> int:
    """Write the recommendations of the users in a file to recommendations/ as Parquet: user_id, items,
    scores.

    Args:
        url: the exported run.
        users: Parquet or CSV with a column user_id.
        to: folder or URL for the result; one of an earlier call is replaced.
        address: of a Ray cluster.

    Returns:
        the number of users.

    Raises:
        InputError: the file or one of its users is not there, or something else is in the folder.
    """
    run = open_run(absolute(url), storage)
    source, target = open_location(absolute(users), storage), open_location(absolute(to), storage)
    if target.exists() and (not target.is_folder() or target.files()) and not _ours(target):
        raise InputError(
            "--to",
            to,
            "the folder must be new, empty, or hold recommendations of an earlier call",
            "Name another one.",
        )
    _require_column(source)
    with connect(Scaling(), storage, address, debug), ray_data(0):
        import ray

        dataset = _read(source)
        begin(target)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)  # one reads
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=cores)
        written = dataset.map_batches(
            _Recommender,
            fn_constructor_args=(absolute(url), storage, target, wish),
            batch_format="pyarrow",
            batch_size=_BATCH,
            compute=pool,
            num_cpus=1,
        ).take_all()
    files = {row["name"]: FileRecord(row["bytes"], row["sha256"]) for row in written}
    count = sum(int(row["users"]) for row in written)
    made_from = fingerprint(RECOMMENDATIONS, dict(run.facts), asdict(wish))
    publish(target, Manifest(RECOMMENDATIONS, made_from, {"users": count, **asdict(wish)}, files))
    return count


class _Recommender:
    """One process's run; writes a file for every batch of users."""

    def __init__(self, url: str, storage: Storage, target: Location, wish: Wish) -> None:
        self.run, self.target, self.wish = open_run(url, storage), target, wish

    def __call__(self, batch: pa.Table) -> pa.Table:
        done: pa.Table = guarded(self._write)(batch)
        return done

    def _write(self, batch: pa.Table) -> pa.Table:
        given = batch[USER_ID].to_pylist()
        wish = self.wish
        ranked = self.run.recommend(given, wish.k, wish.exclude_seen, wish.exact)
        assert isinstance(ranked, list)
        sink = pa.BufferOutputStream()
        pq.write_table(_table(self.run, given, ranked), sink)
        name = f"{RECOMMENDATIONS}/part-{hashlib.sha256(repr(given).encode()).hexdigest()[:16]}.parquet"
        record = (self.target / name).write_bytes(sink.getvalue())
        return pa.table(
            {"name": [name], "bytes": [record.bytes], "sha256": [record.sha256], "users": [len(given)]}
        )


def _table(run: Run, users: list[object], ranked: list[Ranked]) -> pa.Table:
    items = pa.array([each.items for each in ranked], pa.list_(run.items.array.type))
    scores = pa.array([each.scores for each in ranked], pa.list_(pa.float32()))
    ids = run.users.array.take(pa.array(run.users.places(users)))
    return pa.table({USER_ID: ids, ITEMS: items, SCORES: scores})


def _ours(target: Location) -> bool:
    return target.is_folder() and read_manifest(target, RECOMMENDATIONS) is not None


def _read(source: Location):  # type: ignore[no-untyped-def]
    import ray

    if source.path.endswith(".csv"):
        texts = pa.csv.ConvertOptions(column_types={USER_ID: pa.string()}, include_columns=[USER_ID])
        return ray.data.read_csv(source.path, filesystem=source.filesystem, convert_options=texts)
    return ray.data.read_parquet(source.path, filesystem=source.filesystem, columns=[USER_ID])


def _require_column(source: Location) -> None:
    if not source.exists():
        raise InputError("--users", source.url, "the file must exist", "Check the path.")
    rule, remedy = f"a Parquet or CSV file with a column {USER_ID}", "Write such a file."
    try:
        with source.filesystem.open_input_file(source.path) as stream:
            if source.path.endswith(".csv"):
                names = pa.csv.open_csv(stream).schema.names
            else:
                names = pq.read_schema(stream).names
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError("--users", source.url, f"{rule} ({str(error).splitlines()[0]})", remedy) from error
    if USER_ID not in names:
        raise InputError("--users", f"{source.url} with {', '.join(names)}", rule, remedy)
