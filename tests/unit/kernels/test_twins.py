"""Every compiled kernel against its torch twin, on examples that reach each branch of both."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mmssl_dist.errors import MmsslError
from mmssl_dist.kernels import edges, id_sets, item_edges, keyed, keyed_sample, listed, replies, row_adam

NODES = 200


def lists(seed: int, rows: int = NODES) -> tuple[Tensor, Tensor, Tensor]:
    """indptr, neighbours and weights of rows with 0 to 11 of NODES neighbours."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 12, (rows,), generator=draw)
    neighbours = torch.cat([torch.randperm(NODES, generator=draw)[:n].sort().values for n in counts.tolist()])
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return indptr, neighbours, torch.rand(len(neighbours), generator=draw)


@given(st.lists(st.lists(st.integers(0, NODES - 1), max_size=40), min_size=1, max_size=4), st.booleans())
def test_every_id_stands_where_the_union_says(ids, narrow):
    tensors = [torch.tensor(part, dtype=torch.int32 if narrow else torch.int64) for part in ids]
    for union in (id_sets.union, id_sets.union_plain):
        nodes, positions = union(NODES, *tensors)
        assert nodes.dtype == torch.int64
        assert nodes.tolist() == sorted(set(itertools.chain(*ids)))
        assert [nodes[position].tolist() for position in positions] == ids


@pytest.mark.parametrize("num_nodes", [64, 65, 127, 128, 2**40])
def test_the_union_holds_the_last_node_and_copes_with_many_nodes(num_nodes):
    ids = torch.tensor([num_nodes - 1, 0, 63, num_nodes - 1])
    nodes, (positions,) = id_sets.union(num_nodes, ids)
    assert nodes[positions].tolist() == ids.tolist()
    assert nodes.tolist() == sorted(set(ids.tolist()))


@pytest.mark.parametrize("wrong", [-1, NODES, 2**62])
def test_an_id_that_no_node_has_is_refused(wrong):
    ids = torch.tensor([3, wrong])
    for union in (id_sets.union, id_sets.union_plain):
        with pytest.raises(MmsslError, match="1 sampled node ids are outside of 0 to 199"):
            union(NODES, ids)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("candidates", [0, 1, 17, NODES])
def test_known_pairs(seed, candidates):
    indptr, neighbours, _ = lists(seed)
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, NODES, (50,), generator=draw)
    chosen = torch.randperm(NODES, generator=draw)[:candidates].sort().values
    known = id_sets.known_pairs(
        num_nodes=NODES, indptr=indptr, neighbours=neighbours, rows=rows, candidates=chosen
    )
    expected = [
        [c in neighbours[indptr[r] : indptr[r + 1]].tolist() for c in chosen.tolist()] for r in rows.tolist()
    ]
    assert known.tolist() == expected
    assert torch.equal(
        known,
        id_sets.known_pairs_plain(
            num_nodes=NODES, indptr=indptr, neighbours=neighbours, rows=rows, candidates=chosen
        ),
    )
    assert torch.equal(
        known,
        id_sets.known_pairs(
            num_nodes=NODES, indptr=indptr, neighbours=neighbours.int(), rows=rows, candidates=chosen
        ),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pairs", [0, 1, 300])
def test_listed(seed, pairs):
    indptr, neighbours, _ = lists(seed)
    draw = torch.Generator().manual_seed(seed)
    rows, nodes = (torch.randint(0, NODES, (pairs,), generator=draw) for _ in range(2))
    expected = [
        node in neighbours[indptr[row] : indptr[row + 1]].tolist()
        for row, node in zip(rows.tolist(), nodes.tolist(), strict=True)
    ]
    result = listed.listed(indptr, neighbours, rows, nodes)
    assert result.tolist() == expected
    assert torch.equal(result, listed.listed_plain(indptr, neighbours, rows, nodes))
    assert torch.equal(result, listed.listed(indptr, neighbours.int(), rows, nodes))
    none = torch.zeros(NODES + 1, dtype=torch.int64)
    for empty in (listed.listed, listed.listed_plain):
        assert not empty(none, neighbours[:0], rows, nodes).any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seeds", [0, 1, 50])
def test_item_edges(seed, seeds):
    draw = torch.Generator().manual_seed(seed)
    keep = torch.randperm(NODES, generator=draw)[:seeds]
    counts = torch.randint(0, 5, (seeds,), generator=draw)
    source = torch.randint(0, NODES, (int(counts.sum()),), generator=draw)
    is_item = torch.rand(NODES, generator=draw) < 0.4
    is_item[source] = True  # users are joined to items alone
    number = {node: rank for rank, node in enumerate(is_item.nonzero().flatten().tolist())}
    of_seed, items, weights = item_edges.item_edges(keep, source, counts, is_item)
    lists = [
        [number[node]] if is_item[node] else [number[other] for other in drawn.tolist()]
        for node, drawn in zip(keep.tolist(), torch.split(source, counts.tolist()), strict=True)
    ]
    assert [part.tolist() for part in torch.split(items, of_seed.tolist())] == lists
    for part in torch.split(weights, of_seed.tolist()):
        assert len(part) == 0 or float(part.sum()) == pytest.approx(1)
    for ours, twin in zip(
        (of_seed, items, weights), item_edges.item_edges_plain(keep, source, counts, is_item), strict=True
    ):
        assert torch.equal(ours, twin)


@pytest.mark.parametrize("moments", [1, 24])
@pytest.mark.parametrize("columns", [0, 5])
def test_row_adam(moments, columns):
    draw = torch.Generator().manual_seed(moments + columns)
    rows = torch.randn(NODES, 24, generator=draw)
    state = [rows, torch.zeros(NODES, 24), torch.zeros(NODES, moments)]
    compiled, plain = ([tensor.clone() for tensor in state] for _ in range(2))
    frozen = torch.rand(NODES, generator=draw) < 0.5 if columns else None
    for number in range(1, 6):
        index = torch.randperm(NODES, generator=draw)[: 40 * (number % 3)]
        gradient = torch.randn(len(index), 24, generator=draw)
        before = gradient.clone()
        step = row_adam.AdamStep.of(
            learning_rate=0.01, betas=(0.9, 0.999), epsilon=1e-8, steps=number, frozen_columns=columns
        )
        row_adam.update_rows(*compiled, index=index, gradient=gradient, step=step, frozen=frozen)
        row_adam.update_rows_plain(*plain, index=index, gradient=gradient, step=step, frozen=frozen)
        assert torch.equal(gradient, before)
    for ours, twin in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, twin, rtol=1e-5, atol=1e-7)
    assert not torch.equal(compiled[0], rows)
    if frozen is not None:
        assert torch.equal(compiled[0][frozen, -5:], rows[frozen, -5:])


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8), st.integers(0, 9))
def test_keyed_uniform_draws_have_equal_bits(key, ids, columns):
    rows = torch.tensor(ids, dtype=torch.int64)
    assert torch.equal(keyed.uniform(key, rows), keyed.uniform_plain(key, rows))
    other = torch.arange(columns) * 2**40 - 3
    for wide in (other, other[None]):
        ours = keyed.uniform(key, rows[:, None], wide)
        assert torch.equal(ours, keyed.uniform_plain(key, rows[:, None], wide))
        assert ours.shape == (len(ids), columns)


def test_dropout_and_its_gradient():
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    rows[3, 2] = torch.inf
    ids = torch.arange(50) * 7
    ours, twin = (rows.clone().requires_grad_() for _ in range(2))
    dropped, expected = keyed.dropout(ours, ids, 5, 0.3), keyed.dropout_plain(twin, ids, 5, 0.3)
    torch.testing.assert_close(dropped, expected, rtol=0, atol=0, equal_nan=True)
    slope = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    dropped.backward(slope)
    expected.backward(slope)
    assert torch.equal(ours.grad, twin.grad)
    assert 0.6 < float((ours.grad != 0).float().mean()) < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_edges_of_rows(seed):
    indptr, neighbours, weight = lists(seed)
    rows = torch.randint(0, NODES, (60,), generator=torch.Generator().manual_seed(seed))
    whole = edges.neighbourhoods(indptr, neighbours, weight, rows)
    for twin in (
        edges.neighbourhoods_plain(indptr, neighbours, weight, rows),
        edges.neighbourhoods(indptr, neighbours.int(), weight, rows),
    ):
        assert all(torch.equal(a, b) for a, b in zip(whole, twin, strict=True))
    degrees = indptr[rows + 1] - indptr[rows]
    counts = degrees.clamp(max=4)
    drawn = torch.cat(
        [indptr[r] + torch.arange(c) for r, c in zip(rows.tolist(), counts.tolist(), strict=True)]
    )
    ours = edges.drawn_weights(indptr=indptr, weight=weight, rows=rows, counts=counts, edges=drawn)
    assert torch.equal(
        ours, edges.drawn_weights_plain(indptr=indptr, weight=weight, rows=rows, counts=counts, edges=drawn)
    )
    first = int((degrees > 4).nonzero()[0])
    at = int(counts[:first].sum())
    assert float(ours[at]) == pytest.approx(float(weight[indptr[rows[first]]] * degrees[first] / 4))


@pytest.mark.parametrize("seed", range(3))
def test_transposed_block(seed):
    indptr, columns, weight = lists(seed, rows=37)
    indptr, columns = indptr.int(), columns.int()
    ours = edges.transpose(indptr, columns, weight, NODES)
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours, edges.transpose_plain(indptr, columns, weight, NODES), strict=True)
    )
    matrix = torch.sparse_csr_tensor(indptr.long(), columns.long(), weight, (37, NODES)).to_dense()
    turned = torch.sparse_csr_tensor(ours[0].long(), ours[1].long(), ours[2], (NODES, 37)).to_dense()
    assert torch.equal(matrix.T, turned)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_block_with_a_column_that_is_none_is_refused(wrong):
    with pytest.raises(MmsslError, match="outside of 0 to 4"):
        edges.transpose(torch.tensor([0, 1]).int(), torch.tensor([wrong]).int(), torch.ones(1), 5)


def test_several_threads_give_the_same(monkeypatch):
    monkeypatch.setattr(keyed, "_LEAST", 16)
    rows, ids = torch.randn(999, 8), torch.arange(999)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(keyed.dropout(rows, ids, 1, 0.5), keyed.dropout_plain(rows, ids, 1, 0.5))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("fanout", [1, 4, 11, 30])
@pytest.mark.parametrize("seed", range(3))
def test_keyed_samples_have_equal_bits(seed, fanout):
    indptr, neighbours, weight = lists(seed)
    rows = torch.randint(0, NODES, (90,), generator=torch.Generator().manual_seed(seed))
    key, first = 2**62 + seed, 2**40
    ours = keyed_sample.sample_rows(
        key=key, lists=(indptr, neighbours, weight), rows=rows, first_node=first, fanout=fanout
    )
    for twin in (
        keyed_sample.sample_rows_plain(
            key=key, lists=(indptr, neighbours, weight), rows=rows, first_node=first, fanout=fanout
        ),
        keyed_sample.sample_rows_plain(
            key=key, lists=(indptr, neighbours.int(), weight), rows=rows, first_node=first, fanout=fanout
        ),
        keyed_sample.sample_rows(
            key=key, lists=(indptr, neighbours.int(), weight), rows=rows, first_node=first, fanout=fanout
        ),
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours, twin, strict=True))
    counts, nodes, weights = (part.tolist() for part in ours)
    for row, count in zip(rows.tolist(), counts, strict=True):
        low, high = indptr[row : row + 2].tolist()
        known = dict(zip(neighbours[low:high].tolist(), weight[low:high].tolist(), strict=True))
        chosen = nodes[:count]
        assert len(set(chosen)) == count == min(high - low, fanout)
        for node, weighs in zip(chosen, weights[:count], strict=True):
            assert weighs == pytest.approx(known[node] * (high - low) / count)
        nodes, weights = nodes[count:], weights[count:]
    assert not nodes


def test_every_set_of_neighbours_is_as_likely():
    """All 20 sets of 3 of 6 neighbours over 40,000 nodes, by a chi-squared test; and neighbouring keys draw
    apart."""
    rows = 40_000
    indptr, weight = torch.arange(rows + 1) * 6, torch.ones(6 * rows)
    neighbours = torch.arange(6).repeat(rows)
    counted = []
    for key in (7, 8):
        _, nodes, _ = keyed_sample.sample_rows(
            key=key, lists=(indptr, neighbours, weight), rows=torch.arange(rows), first_node=0, fanout=3
        )
        sets = (1 << nodes.view(rows, 3)).sum(1)
        counted.append(sets)
        observed = torch.bincount(sets, minlength=64)
        observed = observed[observed > 0]
        assert len(observed) == 20
        assert stats.chisquare(observed.numpy()).pvalue > 1e-3
    assert abs(float((counted[0] == counted[1]).double().mean()) - 1 / 20) < 0.005


@pytest.mark.parametrize("wire", [torch.int32, torch.int64])
@pytest.mark.parametrize("chosen", [0, 1, 60])
def test_replies_of_fixed_size(chosen, wire):
    indptr, nodes, weights = lists(chosen)
    counts = indptr.diff()
    pick = torch.randint(0, NODES, (chosen,), generator=torch.Generator().manual_seed(chosen))
    given = {"lists": pick, "width": 11, "wire": wire}
    padded = replies.pad_lists(counts, nodes, weights, **given)
    assert torch.equal(padded, replies.pad_lists_plain(counts, nodes, weights, **given))
    assert padded.shape == (chosen, 11, 2)
    assert padded.dtype == wire
    expected = edges.neighbourhoods(indptr, nodes, weights, pick)
    for unpad in (replies.unpad_lists, replies.unpad_lists_plain):
        assert all(torch.equal(a, b) for a, b in zip(unpad(padded), expected, strict=True))
