"""`make serving`, smaller: an approximate index under load finds enough, no request fails, the drain is
clean."""

from __future__ import annotations

from mmssl_dist.serving.run import open_run
from tests.benchmarks.large_export import Size, publish_large
from tests.benchmarks.serving import RECALL, drain, recall_over_http, served

SIZE = Size(users=500, items=20_000)


def test_a_service_under_load(tmp_path):
    publish_large(tmp_path / "run", SIZE, ("export.index.exact_up_to=1000",))
    run = open_run(str(tmp_path / "run"))
    assert run.facts["index"]["kind"] == "ivf"
    with served(tmp_path, replicas=2) as (process, port):
        assert recall_over_http(run, port, SIZE.users, asked=100) >= RECALL
        result = drain(process, port)
    assert result["clean"], result
    assert result["before"]["200"] > 50
