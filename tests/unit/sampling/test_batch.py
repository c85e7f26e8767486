"""Batches of one worker: positions point at the right nodes, sampled edges are the graph's, and sampled sums
are unbiased."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.installed_dgl import dgl_installed
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.kernels import edges, id_sets, keyed_sample
from mmssl_dist.sampling.batch import Batch, BatchSampler
from mmssl_dist.sampling.block import Block, aggregate
from mmssl_dist.sampling.seeds import SeedSampler
from mmssl_dist.sharding.topology import Adjacency, adjacency_from_pairs
from tests.graphs import Pairs, dense, item_nodes, local_graph, neighbours_of, small_graphs, user_nodes
from tests.unit.sampling.shares import sampling_job

BOOK = PartitionBook((7, 6), (5, 8))
PAIRS = [(u, i) for u in range(13) for i in range(13) if (u * u + 3 * i) % 5 < 2 or u == i]

DRAWS = pytest.mark.parametrize("draws", [pytest.param("dgl", marks=pytest.mark.dgl), "device"])


def sampler(book: PartitionBook, pairs: Pairs, job: Job) -> BatchSampler:
    graph = local_graph(book, pairs)
    return BatchSampler(graph, graph_exchange(book), job)


def graph_exchange(book: PartitionBook) -> Exchange:
    return Exchange(None, book.worker_bounds(1), 0)


def lists_view(book: PartitionBook, size: int) -> Adjacency:
    """Every user lists ``size`` items, every item the users that list it."""
    users, items = user_nodes(book), item_nodes(book)
    pairs = [(u, items[(3 * k + n) % len(items)]) for n, u in enumerate(users) for k in range(size)]
    rows = torch.tensor([side for pair in pairs for side in pair])
    nodes = torch.tensor([side for u, i in pairs for side in (i, u)])
    return adjacency_from_pairs(rows, nodes, book.num_nodes)


@dataclass
class Sets:
    """Node ids of the batch's sets: source S_{L+1}, then S_L, ..., S_0."""

    source: Tensor
    sets: list[Tensor]


def sets_of(batch: Batch) -> Sets:
    """Found by following the blocks from the outermost set inwards, as the model does."""
    source = batch.id_route.requested  # with one worker, local rows are node ids
    sets = [source[batch.graph.start_keep]]
    for block in batch.graph.layers:
        assert block.num_source == len(sets[-1])
        sets.append(sets[-1][block.keep])
    return Sets(source, sets)


def check_block(
    block: Block, source: Tensor, destination: Tensor, graph: Adjacency, fanout: int | None
) -> None:
    """Its edges are distinct edges of ``graph``, and weigh what the edge weighs times degree over count."""
    assert block.num_source == len(source)
    assert block.num_destination == len(destination)
    for row, node in enumerate(destination.tolist()):
        begin, end = block.indptr[row : row + 2].tolist()
        low, high = graph.indptr[node : node + 2].tolist()
        degree = high - low
        weights = dict(zip(graph.neighbours[low:high].tolist(), graph.weight[low:high].tolist(), strict=True))
        chosen = source[block.source[begin:end]].tolist()
        assert len(set(chosen)) == len(chosen) == min(degree, fanout or degree)
        for neighbour, weight in zip(chosen, block.weight[begin:end].tolist(), strict=True):
            assert weight == pytest.approx(weights[neighbour] * degree / len(chosen), rel=1e-5)


def check_batch(batch: Batch, made_by: BatchSampler, pairs: Pairs, fanouts: list[int | None]) -> None:
    book, lists = made_by.graph.book, neighbours_of(made_by.graph.book, pairs)
    seeds = SeedSampler(made_by.graph, made_by.exchange, SEEDS_OF[made_by]).draw(batch.epoch, batch.step)
    assert torch.equal(batch.nodes[batch.users], seeds.users)
    assert torch.equal(batch.nodes[batch.positives], seeds.positives)
    assert torch.equal(batch.nodes[batch.negatives], seeds.negatives)
    assert batch.pairs == len(batch.users)
    users = sorted(set(seeds.users.tolist()))
    assert batch.nodes[batch.batch_users].tolist() == users
    assert batch.user_counts == (len(users),)
    candidates = batch.candidates.tolist()
    if made_by.all_candidates:
        assert candidates == item_nodes(book)
    elif made_by.use_candidates:
        assert candidates == sorted(set(seeds.candidates.tolist()))
    assert batch.nodes[batch.own_candidates].tolist() == candidates
    assert batch.candidate_counts == (len(candidates),)
    assert batch.known.tolist() == [[item in lists[user] for item in candidates] for user in users]
    wanted = {*users, *seeds.positives.tolist(), *seeds.negatives.tolist(), *candidates}
    assert batch.nodes.tolist() == sorted(wanted)
    assert torch.equal(batch.seed_route.requested, batch.nodes)
    result = sets_of(batch)
    assert len(batch.graph.layers) == len(fanouts)
    assert torch.equal(result.sets[-1], batch.nodes)
    assert torch.equal(result.sets[0][batch.graph.seeds], batch.nodes)
    assert torch.equal(result.source[batch.graph.seeds_source], batch.nodes)
    for block, source, destination, fanout in zip(
        batch.graph.layers, result.sets, result.sets[1:], reversed(fanouts), strict=False
    ):
        check_block(
            block=block, source=source, destination=destination, graph=made_by.graph.training, fanout=fanout
        )
    for m, view in made_by.views.items():
        check_block(
            block=batch.graph.views[m],
            source=result.source,
            destination=result.sets[0],
            graph=view.adjacency,
            fanout=made_by.view_fanout,
        )
    if not made_by.views:
        assert torch.equal(result.source, result.sets[0])


SEEDS_OF: dict[BatchSampler, Job] = {}


def checked(
    book: PartitionBook, pairs: Pairs, job: Job, fanouts: list[int | None], views: int = 0
) -> list[Batch]:
    """The first epoch's batches, each checked."""
    made_by = sampler(book, pairs, job)
    SEEDS_OF[made_by] = job
    if views:
        made_by.publish({m: lists_view(book, size) for size, m in enumerate(("text", "image"), start=views)})
    batches = [made_by.batch(1, step) for step in range(made_by.steps)]
    for batch in batches:
        check_batch(batch, made_by, pairs, fanouts)
    return batches


@DRAWS
@settings(max_examples=30)
@given(case=small_graphs(), more=st.integers(0, 12), inner=st.integers(1, 3), outer=st.integers(1, 3))
def test_small_graphs(case, more, inner, outer, draws):
    book, pairs = case
    job = sampling_job(
        book.parts,
        f"training.batch_size={book.parts + more}",
        f"training.fanout=[{inner}, {outer}]",
        "losses.candidates=5",
        f"training.sampler={draws}",
    )
    checked(book, pairs, job, [inner, outer])


@DRAWS
@pytest.mark.parametrize("candidates", ["12", "all"])
@pytest.mark.parametrize("fanout", ["[3, 2]", "all"])
def test_with_views(candidates, fanout, draws):
    job = sampling_job(
        2,
        "training.batch_size=20",
        f"training.fanout={fanout}",
        "model.modality_graph.fanout=2",
        f"losses.candidates={candidates}",
        f"training.sampler={draws}",
    )
    fanouts = [3, 2] if fanout != "all" else [None, None]
    batches = checked(BOOK, PAIRS, job, fanouts, views=3)
    assert all(list(batch.graph.views) == ["image", "text"] for batch in batches)
    assert all(batch.known.any() and not batch.known.all() for batch in batches)


def test_no_layers_and_no_candidates():
    job = sampling_job(
        2,
        "training.fanout=all",
        "model.layers=0",
        "model.item_graph.weight=0",
        "model.modality_graph.size=0",
        "losses.adversarial.weight=0",
        "losses.ranking.loss=bpr",
        "losses.contrastive.weight=0",
        "training.batch_size=9",
    )
    for batch in checked(BOOK, PAIRS, job, []):
        assert len(batch.candidates) == 0
        assert batch.known.shape == (len(batch.batch_users), 0)
        assert batch.graph.layers == ()


def test_a_batch_is_a_function_of_its_numbers():
    job = sampling_job(2, "training.batch_size=20", "training.fanout=[3, 2]")
    one, again = sampler(BOOK, PAIRS, job), sampler(BOOK, PAIRS, job)
    assert one.steps > 1
    for at in ((0, 0), (0, 1), (1, 0)):
        ours, theirs = one.batch(*at), again.batch(*at)
        assert torch.equal(ours.nodes, theirs.nodes)
        assert torch.equal(ours.graph.layers[0].source, theirs.graph.layers[0].source)
    assert not torch.equal(one.batch(0, 0).graph.layers[0].source, one.batch(5, 0).graph.layers[0].source)


def test_on_the_cpu_it_stays_as_it_is_and_else_moves_whole():
    batch = sampler(BOOK, PAIRS, sampling_job(2)).batch(0, 0)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    tensors += [moved.id_route.requested, moved.seed_route.requested, moved.graph.layers[0].source]
    assert len(tensors) >= 10
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def z_scores(draws: list[Tensor], exact: Tensor) -> Tensor:
    """Distance of the draws' mean from ``exact`` in standard errors; entries that never vary must be
    exact."""
    stacked = torch.stack(draws)
    error = stacked.std(0) / len(draws) ** 0.5
    distance = stacked.mean(0) - exact
    constant = error < 1e-9
    assert (distance[constant].abs() < 1e-6).all()
    assert constant.float().mean() < 0.2
    return (distance / error)[~constant]


def test_sampled_sums_are_unbiased():
    """The mean over many draws of two sampled hops, and of a sampled view, is within its standard error of
    the sum over whole neighbourhoods, for every node and dimension."""
    book = PartitionBook((BOOK.num_users,), (BOOK.num_items,))
    job = sampling_job(
        1,
        f"training.batch_size={len(PAIRS)}",
        "training.fanout=[3, 2]",
        "model.modality_graph.fanout=2",
        "losses.candidates=4",
    )
    made_by, view = sampler(book, PAIRS, job), lists_view(book, 4)
    made_by.publish({"image": view})
    rows = torch.randn(book.num_nodes, 3, generator=torch.Generator().manual_seed(0))
    hops, views = [], []
    for epoch in range(300):
        batch = made_by.batch(epoch, 0)
        assert len(batch.nodes) == book.num_nodes  # every node has an interaction, hence is a seed
        result = sets_of(batch)
        hidden = rows[result.sets[0]]
        for block in batch.graph.layers:
            hidden = aggregate(block, hidden)
        hops.append(hidden.double())
        views.append(aggregate(batch.graph.views["image"], rows[result.source])[batch.graph.seeds].double())
    weights = dense(book, PAIRS)
    whole = torch.zeros(book.num_nodes, book.num_nodes, dtype=torch.float64)
    row = torch.repeat_interleave(torch.arange(book.num_nodes), view.indptr.diff())
    whole[row, view.neighbours] = view.weight.double()
    for draws, exact in ((hops, weights @ weights @ rows.double()), (views, whole @ rows.double())):
        z = z_scores(draws, exact)
        assert z.abs().max() < 4
        assert 0.5 < z.square().mean() < 1.6


def tensors(value: object) -> list[Tensor]:
    """Those in a batch, in the order of its fields."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    parts = vars(value).values() if hasattr(value, "__dataclass_fields__") else parts
    return [tensor for part in parts for tensor in tensors(part)]


def test_batches_by_keys_have_equal_bits_with_the_kernels_of_another_device(monkeypatch):
    """What a GPU runs, the kernels' torch twins, run here on the CPU: whole batches are equal, bit by bit."""
    job = sampling_job(
        2,
        "training.batch_size=20",
        "training.fanout=[3, 2]",
        "training.sampler=device",
        "losses.candidates=9",
    )
    views = {"image": lists_view(BOOK, 3)}

    def batches() -> list[Batch]:
        made_by = sampler(BOOK, PAIRS, job)
        made_by.publish(views)
        return [made_by.batch(1, step) for step in range(made_by.steps)]

    compiled = batches()
    twins = {
        "batch.union": id_sets.union_plain,
        "batch.known_pairs": id_sets.known_pairs_plain,
        "neighbours.sample_rows": keyed_sample.sample_rows_plain,
        "block.transpose": edges.transpose_plain,
    }
    for name, twin in twins.items():
        monkeypatch.setattr(f"mmssl_dist.sampling.{name}", twin)
    for ours, theirs in zip(compiled, batches(), strict=True):
        of_both = list(zip(tensors(ours), tensors(theirs), strict=True))
        assert len(of_both) > 30
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in of_both)


def test_without_a_word_on_it_dgl_draws_where_it_is_installed():
    made_by = sampler(BOOK, PAIRS, sampling_job(2))
    assert made_by.keyed == (not dgl_installed())
