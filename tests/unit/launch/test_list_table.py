"""The table of ``export.table``: what is refused before anything runs, and what follows an export."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mmssl_dist.config import Job
from mmssl_dist.errors import ConfigError, InputError, WorkerError
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.list_table import check_list_table, list_table, lists_fingerprint
from mmssl_dist.launch.preflight import check_writable
from mmssl_dist.pipeline.engine import Pipeline
from mmssl_dist.pipeline.table_update import update_list_table
from mmssl_dist.serving.dated.dated_table import today
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import Manifest, RunFolder
from tests.exported import publish_run
from tests.jobs import make_job
from tests.tasks import in_this_process

PARTS = 4


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("export.table.path=out/lists",), r"export\.table\.path.*the table outlives the run"),
        (("export.table.path=out",), r"export\.table\.path.*the table outlives the run"),
        (
            ("export.table.path=lists", "export.recommendations=none"),
            r"export\.table\.path.*there are no lists to write",
        ),
        (
            ("export.table.path=lists", "export.table.date=30.11.2026"),
            r"export\.table\.date.*must be a date, such as 2026-02-01",
        ),
        (("export.table.path=lists", "export.table.date=20261130"), r"export\.table\.date"),
        (("export.table.path=lists", "export.table.date='2026-11-31'"), r"export\.table\.date"),
        (("export.table.path=lists", "export.table.date=2026-11-30T10:00:00"), r"export\.table\.date"),
        (("export.table.format=delta",), r"export\.table\.path.*missing"),
    ],
)
def test_settings_that_cannot_be_meant(sets, message):
    with pytest.raises(ConfigError, match=message):
        make_job("output=out", *sets)


def test_a_day_of_yaml_is_a_date(tmp_path):
    job = make_job("export.table.path=lists", "export.table.date=2026-11-30")  # which YAML reads as a date
    table = list_table(job, day="2026-12-24")
    assert table is not None
    assert table.folder == "date=2026-11-30"
    of_today = list_table(make_job("export.table.path=lists"))
    assert of_today is not None
    assert of_today.day == today()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"^export\.table\.path: found .*must be a folder that can be writt"):
        check_writable(f"{tmp_path}/file/lists", make_job().storage, "export.table.path")


@pytest.mark.parametrize(
    ("sets", "table", "setting"),
    [
        (("data.interactions=events",), "raw/events/lists", "data.interactions"),
        (("data.interactions=events",), "raw/events", "data.interactions"),
        (("data.interactions=events",), "link/events/lists", "data.interactions"),
        (("data.interactions=lists/_in/events.parquet",), "raw/lists", "data.interactions"),
        (("data.interactions='*/*/*.parquet'",), "raw/lists", "data.interactions"),
        (("data.interactions='events/**'",), "raw/events/lists", "data.interactions"),
        (("data.titles=titles",), "raw/titles/lists", "data.titles"),
        ((), "", "data.interactions"),
    ],
)
@pytest.mark.parametrize("table_format", ["parquet", "delta"])
def test_a_table_among_data_is_refused(tmp_path, sets, table, setting, table_format):
    (tmp_path / "raw").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    where = (f"data.path={tmp_path}/raw", f"output={tmp_path.parent}/out")
    to = (f"export.table.path={tmp_path}/{table}".rstrip("/"), f"export.table.format={table_format}")
    with pytest.raises(InputError, match=rf"^export\.table\.path: .*; {setting} reads from there, and lists"):
        check_list_table(make_job(*where, *sets, *to))


def test_a_table_beside_data_is_fine(tmp_path):
    for sets in (("data.interactions=events",), ("data.interactions='*/*.parquet'",), ()):
        to = (f"data.path={tmp_path}", f"export.table.path={tmp_path}/lists", f"output={tmp_path}/out")
        check_list_table(make_job(*to, *sets))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return publish_run(tmp_path / "run", f"export.table.path={tmp_path}/lists", "export.k=5").job


class InThisProcess(LazyCluster):
    """Runs tasks here, and counts them; the task with the number ``fails`` does not come to an end."""

    def __init__(self, fails: int | None = None) -> None:
        super().__init__(lambda: self, "none")  # type: ignore[arg-type, return-value]
        self.tasks, self.fails = 0, fails

    def run_tasks(self, function, arguments):
        for number, call in enumerate(arguments):
            self.tasks += 1
            if number == self.fails:
                in_this_process(function, arguments[:number])
                raise WorkerError("lost")
            assert call
        return in_this_process(function, arguments)


def update(job: Job, export: Manifest, day: str, force: bool = False, fails: int | None = None) -> int:
    """How many tasks it took."""
    cluster, table = InThisProcess(fails), list_table(job, day)
    assert table is not None
    update_list_table(Pipeline(job, cluster), export, table, force)
    return cluster.tasks


def test_lists_become_the_rows_of_a_day_once(tmp_path, job, caplog):
    caplog.set_level(logging.INFO, "mmssl_dist")
    check_list_table(job)
    export, run = RunFolder.of(job).export.require(), open_run(job.output)
    with pytest.raises(WorkerError, match="lost"):
        update(job, export, "2026-11-30", fails=1)
    assert not list((tmp_path / "lists").rglob("*.parquet"))
    assert update(job, export, "2026-11-30") == PARTS  # a task for each partition
    rows = pq.read_table(tmp_path / "lists/date=2026-11-30", partitioning=None)
    expected = {
        (user, rank, item)
        for user in run.users.array.to_pylist()
        for rank, item in enumerate(run.recommend(user, k=5).items, 1)
    }
    assert set(zip(*rows.drop_columns("score").to_pydict().values(), strict=True)) == expected
    assert caplog.messages[-1].startswith(f"table: {len(rows)} rows, {tmp_path}/lists, date=2026-11-30 (")
    assert update(job, export, "2026-11-30") == 0
    assert caplog.messages[-1] == f"table: up to date, {tmp_path}/lists, date=2026-11-30"
    assert update(job, export, "2026-12-01") == PARTS  # the same lists on the next day
    assert update(job, export, "2026-12-01", force=True) == PARTS
    check_list_table(job)  # finds the table that it has written


def test_a_table_of_other_columns_is_refused_before_a_task(tmp_path, job):
    job = job.model_copy(update={"export": job.export.model_copy(update={"table": _delta(job.export.table)})})
    pairs = {"user_id": [1], "rank": [1], "item_id": [1], "score": [1.0], "date": ["2026-11-29"]}
    write_deltalake(str(tmp_path / "lists"), pa.table(pairs), partition_by=["date"])
    export = RunFolder.of(job).export.require()
    cluster, table = InThisProcess(), list_table(job, "2026-11-30")
    assert table is not None
    with pytest.raises(InputError, match="rows with user_id of type int64, instead of string"):
        update_list_table(Pipeline(job, cluster), export, table, False)
    assert cluster.tasks == 0
    assert lists_fingerprint(export) != lists_fingerprint(Manifest("export", "", {}, {}))


def _delta(table):
    return table.model_copy(update={"format": "delta"})
