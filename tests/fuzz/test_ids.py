"""External ids of any kind go out as they came in: through buckets, ranks and the exchange of the export."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.data.ids import buckets_of, canonical_type, hashes, ranked
from mmssl_dist.data.readers.values import to_ids
from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.export.id_exchange import LocalIds, fetch_external_ids
from tests.fuzz.amount import amount
from tests.fuzz.generated_tables import as_written
from tests.fuzz.refusals import message
from tests.fuzz.values import KINDS, columns


@amount
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    id_type = data.draw(st.sampled_from(sorted(KINDS)))
    raw = data.draw(columns(id_type, data.draw(st.integers(0, 10))))
    wanted = canonical_type(raw.type)
    if wanted is None:
        return
    try:
        ids = to_ids(pa.chunked_array([raw]), wanted, lambda row: f"row {row}")
    except InputError as error:
        refused = message(error)
    else:
        refused = ""
    if refused:
        assert refused.startswith("row ")
        return
    assert as_written(ids) == as_written(raw)
    ids = ids.drop_null()
    distinct, position = ranked(ids)
    assert as_written(distinct.take(pa.array(position))) == as_written(ids)
    assert len({repr(value) for value in as_written(distinct)}) == len(distinct)
    shuffled = ids.take(pa.array(data.draw(st.permutations(range(len(ids)))), pa.int64()))
    assert sorted(hashes(shuffled).tolist()) == sorted(hashes(ids).tolist())
    assert set(buckets_of(ids, 3).to_pylist()) <= {0, 1, 2}
    nodes = np.arange(len(distinct), dtype=np.int64)
    asked = (
        data.draw(st.lists(st.sampled_from(nodes.tolist()), unique=True).map(sorted)) if len(nodes) else []
    )
    exchange = Exchange(None, np.asarray([0, max(len(nodes), 1)], np.int64), 0)
    result = fetch_external_ids(torch.tensor(asked, dtype=torch.int64), exchange, LocalIds(nodes, distinct))
    assert result.type == distinct.type
    assert as_written(result) == as_written(distinct.take(pa.array(asked, pa.int64())))
