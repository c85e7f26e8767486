"""Exact ranking of every item for every user, block by block, each worker ranking for its own users.

Guarantees: no item is left out, no score matrix larger than one user block by one item block is held, and
    equal scores
are ranked by the lower node id, so the lists do not depend on the blocks or, up to rounding of the scores, on
the number of workers.

Shapes: n local users, m local items, D width, k list length, B users of a block, M items of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mmssl_dist.errors import NonFiniteError
from mmssl_dist.exchange.exchange import Exchange

NO_NODE = -1
# columns compared through their maximum; a power of two that balances the costs of the two passes
CHUNK_COLUMNS = 64


@dataclass(frozen=True)
class Seen:
    """Items of each local user that are not recommended: those of training, or of another split.

    Attributes:
        indptr: int64 [n + 1], where each user's items begin in ``nodes``.
        nodes: int64 node ids of the items.
    """

    indptr: Tensor
    nodes: Tensor


@dataclass(frozen=True)
class Ranking:
    """The best items of each local user, best first.

    Attributes:
        nodes: int64 [n, k] node ids; -1 where a user has fewer than k items to rank.
        scores: float32 [n, k]; -inf beside -1.
    """

    nodes: Tensor
    scores: Tensor


@dataclass(frozen=True)
class _ItemBlock:
    rows: Tensor  # [M, D]
    nodes: Tensor  # [M], ascending


@torch.no_grad()
def top_k(
    users: Tensor,
    seen: Sequence[Seen],
    items: Tensor,
    item_nodes: Tensor,
    k: int,
    user_block: int,
    item_block: int,
    exchange: Exchange,
) -> Ranking:
    """Rank all items of all workers for this worker's users by dot product. Every worker has to call it.

    Args:
        users: [n, D] rows of the local users; n may be 0.
        seen: lists of items to leave out, each for all local users.
        items: [m, D] rows of the local items; m may be 0.
        item_nodes: int64 [m] their node ids, ascending.
        k: length of the lists.
        user_block: users scored at once.
        item_block: items scored at once, the same on all workers.

    Raises:
        NonFiniteError: a row of any worker holds NaN or infinity, which nothing can be ranked by.
    """
    finite = bool(torch.isfinite(users).all()) and bool(torch.isfinite(items).all())
    # Agreed on by all workers, since one that raises alone would leave the others waiting in a broadcast.
    if exchange.max(int(not finite)):
        raise NonFiniteError(
            "evaluation: a user or item row holds NaN or infinity; its items cannot be ranked. "
            "Train with a lower learning rate, or in fp32."
        )
    n = len(users)
    best = Ranking(
        torch.full((n, k), NO_NODE, dtype=torch.int64, device=users.device),
        torch.full((n, k), -torch.inf, dtype=torch.float32, device=users.device),
    )
    buffer = torch.empty(0, dtype=torch.float32, device=users.device)  # one score block, reused for all
    users = users.float()
    for block in _item_blocks(items.float(), item_nodes, item_block, exchange):
        # Padded to whole chunks with scores that can never win, so ``_select`` needs no special last chunk.
        columns = -(-len(block.nodes) // CHUNK_COLUMNS) * CHUNK_COLUMNS
        if buffer.numel() < min(user_block, n) * columns:
            buffer = buffer.new_empty(min(user_block, n) * columns)
        for start in range(0, n, user_block):
            stop = min(start + user_block, n)
            scores = buffer[: (stop - start) * columns].view(stop - start, columns)
            # Into the one buffer: a fresh one for every pair of blocks would be mapped and zeroed each time.
            torch.mm(users[start:stop], block.rows.T, out=scores[:, : len(block.nodes)])
            scores[:, len(block.nodes) :] = -torch.inf
            _leave_out(scores, seen, start=start, stop=stop, columns=block.nodes)
            _merge(best, start, stop=stop, scores=scores, columns=block.nodes)
    return best


def hits_of(nodes: Tensor, indptr: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """Which ranked items were held out.

    Args:
        nodes: int64 [n, k], a ``Ranking``'s nodes.
        indptr: int64 [n + 1], where each user's held-out items begin in ``held_out``.
        held_out: int64 node ids, without duplicates within a user.

    Returns:
        hits, bool [n, k], and positives, int64 [n], the number of held-out items of each user.
    """
    positives = indptr.diff()
    users = torch.arange(len(positives), device=nodes.device)
    highest = max((int(ids.max()) for ids in (nodes, held_out) if ids.numel()), default=NO_NODE)
    # Keys fit int64 as long as users times nodes stays below 2^63.
    span = highest + 2  # one key for each user and node, -1 included
    known = (users.repeat_interleave(positives) * span + held_out + 1).sort().values
    asked = users[:, None] * span + nodes + 1
    if not len(known):
        return torch.zeros_like(nodes, dtype=torch.bool), positives
    slots = torch.searchsorted(known, asked).clamp_(max=len(known) - 1)
    return known[slots] == asked, positives


def _item_blocks(items: Tensor, nodes: Tensor, item_block: int, exchange: Exchange) -> Iterator[_ItemBlock]:
    """All workers' items in node order, the same blocks everywhere; each travels once, from its owner."""
    for owner, count in enumerate(exchange.gather_counts(len(nodes))):
        for start in range(0, count, item_block):
            stop = min(start + item_block, count)
            if owner == exchange.rank:
                block = _ItemBlock(items[start:stop].contiguous(), nodes[start:stop].contiguous())
            else:
                block = _ItemBlock(
                    items.new_empty((stop - start, items.shape[1])), nodes.new_empty(stop - start)
                )
            if exchange.world_size > 1:
                # One block at a time: all items at once may not fit beside a worker's own rows.
                dist.broadcast(block.rows, group=exchange.group, group_src=owner)
                dist.broadcast(block.nodes, group=exchange.group, group_src=owner)
            yield block


def _leave_out(scores: Tensor, seen: Sequence[Seen], start: int, stop: int, columns: Tensor) -> None:
    """Set the scores of users start..stop for what they have seen among ``columns`` (node ids) to -inf."""
    for lists in seen:
        indptr = lists.indptr[start : stop + 1]
        nodes = lists.nodes[int(indptr[0]) : int(indptr[-1])]
        # A block holds a range of node ids, so most seen items are ruled out without a search.
        here = ((nodes >= columns[0]) & (nodes <= columns[-1])).nonzero().squeeze(1)
        nodes = nodes[here]
        column = torch.searchsorted(columns, nodes)
        row = torch.searchsorted(indptr - indptr[0], here, right=True) - 1
        known = columns[column] == nodes
        scores.view(-1).index_fill_(0, (row * scores.shape[1] + column)[known], -torch.inf)


def _merge(best: Ranking, start: int, stop: int, scores: Tensor, columns: Tensor) -> None:
    """Let a score block compete with the best so far, which come first and so win ties: their nodes are
    lower."""
    values, column = _select(scores, min(best.nodes.shape[1], len(columns)))
    rival_scores = torch.cat([best.scores[start:stop], values], dim=1)
    rival_nodes = torch.cat([best.nodes[start:stop], columns[column]], dim=1)
    # Blocks come in node order, so of equal scores the earlier column is also the lower node.
    values, winner = _select_directly(rival_scores, best.nodes.shape[1])
    best.scores[start:stop] = values
    best.nodes[start:stop] = rival_nodes.gather(1, winner)


def _select(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest values of each row and their columns, best first, the lower column first among equals.

    Each of the k best lies in one of the k chunks with the highest maxima: a chunk outside has k values in k
    others
    that beat all of its own. So one pass takes maxima, and only k chunks are looked into. (On a CPU several
    times faster than ``torch.topk``, which moreover leaves open which of equal values it takes.)
    """
    rows, width = scores.shape
    if width <= CHUNK_COLUMNS * k:
        return _select_directly(scores, k)
    chunks = scores.view(rows, width // CHUNK_COLUMNS, CHUNK_COLUMNS)
    # Sorted, so that columns inside keep their order and the lower one still wins among equals.
    chosen = _select_directly(chunks.amax(2), k)[1].sort(1).values
    inside = chunks.gather(1, chosen[:, :, None].expand(-1, -1, CHUNK_COLUMNS)).reshape(
        rows, k * CHUNK_COLUMNS
    )
    values, columns = _select_directly(inside, k)
    return values, chosen.gather(1, columns // CHUNK_COLUMNS) * CHUNK_COLUMNS + columns % CHUNK_COLUMNS


def _select_directly(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``_select``, by one integer key a value: the float's bits, put in order, above the column from the
    right."""
    width = scores.shape[1]
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0, which it equals
    # IEEE floats order as integers by sign and magnitude, once the magnitude of negative ones is flipped.
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    # Columns count down, so that of equal scores the lower column has the larger key.
    keys = (ordered << 32) | torch.arange(width - 1, -1, -1, device=scores.device)
    column = width - 1 - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
    return scores.gather(1, column), column
