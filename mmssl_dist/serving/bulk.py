"""Recommendations for a file of users, through Ray Data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from mmssl_dist.cluster.connection import connect
from mmssl_dist.config.resource_sections import Scaling, Storage
from mmssl_dist.data.columns import USER_ID
from mmssl_dist.data.ids import one_array
from mmssl_dist.data.row_operations import guarded
from mmssl_dist.data.runtime import numbers, ray_data
from mmssl_dist.errors import InputError
from mmssl_dist.serving.bulk_output import BulkOutput
from mmssl_dist.serving.dated.dated_table import RowsFile
from mmssl_dist.serving.dated.ranked_rows import TITLES
from mmssl_dist.serving.id_file import IdFile, open_id_file
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.item_table import job_columns
from mmssl_dist.serving.run import NOTHING, Ranked, Run, open_run
from mmssl_dist.serving.titled_run import ItemChoice, open_titled_run, require_listed
from mmssl_dist.storage import FileRecord, fingerprint, open_location
from mmssl_dist.storage.export_names import ITEMS, RECOMMENDATIONS, SCORES
from mmssl_dist.storage.paths import absolute

_BATCH = 4096  # users of one output file
_POSITION = "position"
_PIECE_BITS = 40  # more users than a piece of a file has rows


UnknownPolicy = Literal["error", "skip", "popular"]
WriteLists = Callable[[pa.Table, str], tuple[str, RowsFile]]
"""Lists and a name -> the file's full name, and what was written."""


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """The lists wanted; ``k``, ``exclude_seen`` and ``exact`` are arguments of ``Run.recommend``.

    Attributes:
        unknown: what becomes of a user that the run does not know. "error": the call fails; "skip": no row;
            "popular": the items with most training interactions, without scores.
        titles: write the items' titles too.
        choice: which items may be listed, also for unknown users.
    """

    k: int
    exclude_seen: bool = True
    exact: bool = False
    unknown: UnknownPolicy = "error"
    titles: bool = False
    choice: ItemChoice = field(default_factory=ItemChoice)


@dataclass(frozen=True)
class BulkResult:
    """Users that have a list, users that the run does not know, and items that may be listed."""

    users: int
    unknown: int
    items: int


def recommend_file(
    url: str,
    storage: Storage,
    users: str,
    to: BulkOutput,
    options: ListOptions,
    address: str | None = None,
    debug: bool = False,
) -> BulkResult:
    """Write the recommendations of the users in a file.

    Args:
        url: the exported run.
        users: a file with users in a column user_id, or else in the one that the run's job calls
            ``data.columns.user``: Parquet, CSV, TSV or JSON lines, the texts also compressed.
        to: where they go.
        address: of a Ray cluster.

    Raises:
        InputError: the file is not there, or an unknown user with ``unknown="error"``, or something else is
            where they go; titles are wanted and there are none; no item may be listed.
    """
    if options.unknown not in get_args(UnknownPolicy):
        raise InputError(
            "--unknown", options.unknown, "it must be error, skip or popular", "Give one of these."
        )
    options = replace(options, choice=options.choice.absolute())
    opened = _open(absolute(url), storage, options)
    names = (USER_ID, job_columns(open_location(absolute(url), storage)).user)
    user_file = open_id_file(open_location(absolute(users), storage), names, "--users")
    to.check(_columns_of_lists(opened.run, user_file, options))
    items, listed = _listed(opened)
    settings = asdict(options)
    # Files of items go by what they let through: their addresses may hold a signature.
    settings["where"] = settings.pop("choice")["where"]
    source = fingerprint(RECOMMENDATIONS, dict(opened.run.facts), {**settings, "listed": listed})
    read = guarded(partial(_read_pieces, users=user_file))
    with connect(Scaling(), storage, address, debug), ray_data(0):
        import ray

        dataset = numbers(len(user_file.pieces)).map_batches(read, batch_format="pyarrow")
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)  # one reads
        # Actors instead of tasks, as each process reads the run's files once
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=cores)
        to.require_shared()
        # An earlier result goes only now, when the file of users can be read
        with to.begun():
            written = dataset.map_batches(
                _BulkWriter,
                fn_constructor_args=(absolute(url), storage, partial(to.write, source=source), options),
                batch_format="pyarrow",
                batch_size=_BATCH,
                compute=pool,
                num_cpus=1,
            ).take_all()
        known, unknown = (sum(int(row[column]) for row in written) for column in ("users", "unknown"))
        counts = BulkResult(known, unknown, items)
        facts = {"users": counts.users, "unknown_users": counts.unknown, "items": items, **settings}
        to.finish(dict(map(_written_file, written)), facts, source)
    return counts


class _BulkWriter:
    """One process's run; writes a file for every batch of users. It holds the index and the ids; rows and
    known items of users are mapped, and read for the batch's users alone."""

    def __init__(self, url: str, storage: Storage, write: WriteLists, options: ListOptions) -> None:
        opened = _open(url, storage, options)
        self.run, self.candidates = opened.run, opened.candidates
        self.write, self.options = write, options

    def __call__(self, batch: pa.Table) -> pa.Table:
        done: pa.Table = guarded(self._write)(batch)
        return done

    def _write(self, batch: pa.Table) -> pa.Table:
        ids = batch[USER_ID].to_pylist()
        # Raised by the first unknown id, which the message names.
        find = self.run.users.positions if self.options.unknown == "error" else self.run.users.find
        positions = find(one_array(batch[USER_ID]))
        table = self._lists(batch[USER_ID], positions)
        # Named by its users: a task that is repeated writes the same file again instead of a second one. And
        # by where they stand, since a file may hold the same users again a whole batch later.
        first = batch[_POSITION][0].as_py()
        digest = hashlib.sha256(repr((first, ids)).encode()).hexdigest()
        name, file = self.write(table, digest[:16])
        written = {"name": [name], **{key: [value] for key, value in asdict(file.record).items()}}
        counts = {"users": [table.num_rows], "unknown": [int((positions < 0).sum())]}
        return pa.table({**written, "rows": [file.rows], **counts})

    def _lists(self, users: pa.ChunkedArray, positions: np.ndarray) -> pa.Table:
        """The table of the users at ``positions`` of the run, -1 for those it does not know."""
        options, run = self.options, self.run
        known = positions[positions >= 0]
        lists: list[Ranked] = []
        if len(known):
            lists = run.recommend_at(
                known, options.k, options.exclude_seen, exact=options.exact, candidates=self.candidates
            )
        # One list for all unknown users, told from theirs by identity below.
        popular: Ranked | None = None
        ids = run.users.take(known)
        if options.unknown == "popular":
            popular = run.popular(options.k, self.candidates)
            answers = iter(lists)
            lists = [next(answers) if position >= 0 else popular for position in positions]
            ids = users.combine_chunks()  # in the file's type: the run's may not be able to hold them
        items = pa.array([ranked.items for ranked in lists], pa.list_(run.items.take(NOTHING).type))
        # The popular list has counts, which are not scores.
        scores = pa.array(
            [None if ranked is popular else ranked.scores for ranked in lists], pa.list_(pa.float32())
        )
        columns = {USER_ID: ids, ITEMS: items, SCORES: scores}
        if options.titles:
            columns[TITLES] = pa.array([ranked.titles for ranked in lists], pa.list_(pa.string()))
        return pa.table(columns)


def _columns_of_lists(run: Run, user_file: IdFile, options: ListOptions) -> pa.Schema:
    """Those of ``_BulkWriter``'s tables."""
    if options.unknown == "popular":  # the users are those of the file, in its type
        users = next(table.schema.types[0] for piece in user_file.pieces for table in user_file.read(piece))
    else:
        users = run.users.take(NOTHING).type
    columns = {USER_ID: users, ITEMS: pa.list_(run.items.take(NOTHING).type), SCORES: pa.list_(pa.float32())}
    if options.titles:
        columns[TITLES] = pa.list_(pa.string())
    return pa.schema(list(columns.items()))


@dataclass(frozen=True)
class _Opened:
    """A run, and which of its items may be listed; None: all."""

    run: Run
    candidates: ItemFilter | None


def _open(url: str, storage: Storage, options: ListOptions) -> _Opened:
    """The run for ``options``, with titles and columns of its items where they are needed."""
    choice = options.choice
    candidates = choice.candidates(url, storage)
    run = (
        open_titled_run(url, storage, choice.items)
        if options.titles or choice.where
        else open_run(url, storage)
    )
    if options.titles and not run.item_table.has_titles:
        raise InputError(
            "--titles",
            "a run without titles",
            "titles are those of the job's data.titles, or of --items, in its data.columns.title",
            "Name one of these, or leave out --titles.",
        )
    # Once, and not for every batch of users
    return _Opened(run, None if candidates is None else candidates.fixed(run.items, run.item_table))


def _listed(opened: _Opened) -> tuple[int, str]:
    """How many items may be listed, and a digest of which; raises InputError if there are none."""
    if opened.candidates is None:
        return int(opened.run.facts["items"]), "all"
    mask = require_listed(opened.run, opened.candidates)
    return int(mask.sum()), hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def _written_file(row: dict[str, Any]) -> tuple[str, RowsFile]:
    return row["name"], RowsFile(FileRecord(row["bytes"], row["sha256"]), row["rows"])


def _read_pieces(batch: pa.Table, users: IdFile) -> Iterator[pa.Table]:
    """The users in the pieces whose numbers are in ``batch``, each with a position of its own."""
    for number in batch["id"].to_pylist():
        first = number << _PIECE_BITS
        for table in users.read(users.pieces[number]):
            positions = np.arange(first, first + table.num_rows)
            yield table.rename_columns([USER_ID]).append_column(_POSITION, pa.array(positions))
            first += table.num_rows
