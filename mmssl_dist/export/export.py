"""Hands back what was learned in the user's own ids: embeddings and recommendation lists, a file per
partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.evaluation.evaluate import rank_items
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.export.chosen_users import chosen_users
from mmssl_dist.export.id_exchange import LocalIds, RankedIds, ranked_ids
from mmssl_dist.export.writers import (
    write_item_embeddings,
    write_recommendations,
    write_safetensors,
    write_user_embeddings,
)
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import FileRecord, Location


@dataclass(frozen=True)
class WrittenPartitions:
    """What a worker wrote.

    Attributes:
        files: records by name below the export's folder.
        users: that have a list. named: by ``export.users``; 0 without.
    """

    files: dict[str, FileRecord]
    users: int = 0
    named: int = 0


def export_partitions(
    job: Job,
    graph: LocalGraph,
    rows: Tensor,
    ids: Sequence[tuple[pa.Array, pa.Array]],
    exchange: Exchange,
    location: Location,
) -> WrittenPartitions:
    """Write the files of this worker's partitions (collective).

    Recommendations leave out what ``export.exclude`` says and nothing else. They are written here where
    ``export.recommendations`` is exact: through the index they can only be made when there is one.

    Args:
        rows: [n, D] final rows of the local nodes.
        ids: per partition held, external ids of its users and of its items, in local order.
        location: the export artifact's folder.
    """
    # Once for all files; on a CPU it is the same memory.
    host_rows = rows.cpu().numpy()
    files: dict[str, FileRecord] = {}
    for part, (part_users, part_items) in zip(graph.parts, ids, strict=True):
        # Partition by partition, since its file is the unit that readers of the export take whole.
        part_user_rows = host_rows[_slice(graph.user_rows(part))]
        part_item_rows = host_rows[_slice(graph.item_rows(part))]
        files |= dict(
            [
                write_user_embeddings(location, part, part_users, part_user_rows),
                write_item_embeddings(location, part, part_items, part_item_rows),
                write_safetensors(location, part, part_user_rows, part_item_rows),
            ]
        )
    if job.export.recommendations != "exact":
        return WrittenPartitions(files)
    lists = _write_exact_lists(job, graph, rows, ids=ids, exchange=exchange, location=location)
    return replace(lists, files=files | lists.files)


def _write_exact_lists(
    job: Job,
    graph: LocalGraph,
    rows: Tensor,
    *,
    ids: Sequence[tuple[pa.Array, pa.Array]],
    exchange: Exchange,
    location: Location,
) -> WrittenPartitions:
    """Rank all items for the users of this worker that get a list, and write the lists (collective)."""
    chosen = chosen_users(job)
    positions = [chosen.positions(part_users) for part_users, _ in ids]
    items = graph.items
    parts = zip(graph.parts, positions, strict=True)
    users = torch.from_numpy(np.concatenate([graph.user_rows(part).start + mine for part, mine in parts]))
    item_rows = rows.index_select(0, items.to(rows.device))
    user_rows = rows.index_select(0, users.to(rows.device))
    ranking = rank_items(
        settings=job.evaluation,
        graph=graph,
        users=users,
        user_rows=user_rows,
        item_rows=item_rows,
        k=job.export.k,
        exchange=exchange,
        held_out=HELD_OUT if job.export.exclude == "known" else (),
    )
    # Ranked items may be anybody's; only the ids in the lists are fetched, and each of them once.
    item_ids = pa.concat_arrays([part_items for _, part_items in ids])
    ranked = ranked_ids(ranking.nodes.cpu(), exchange, LocalIds((items + graph.first).numpy(), item_ids))
    scores = ranking.scores.cpu().numpy()
    files: dict[str, FileRecord] = {}
    first_user = 0
    for part, (part_users, _), of_part in zip(graph.parts, ids, positions, strict=True):
        mine = slice(first_user, first_user + len(of_part))
        # Users of the ranking follow the partitions held.
        first_user = mine.stop
        listed = part_users.take(pa.array(of_part))
        lists = RankedIds(ranked.ids, ranked.index[mine])
        files |= dict(
            [write_recommendations(location, part, users=listed, ranked=lists, scores=scores[mine])]
        )
    return WrittenPartitions(files, len(users), chosen.named)


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)
