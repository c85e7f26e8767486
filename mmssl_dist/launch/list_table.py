"""The table of ``export.table``: the published lists as the rows of a day."""

from __future__ import annotations

from mmssl_dist.cluster.tasks import RunTasks
from mmssl_dist.config import Job
from mmssl_dist.data.input_folders import reading_setting
from mmssl_dist.errors import InputError
from mmssl_dist.serving.dated.dated_table import DatedTable, today
from mmssl_dist.serving.dated.day_writing import ListFiles, open_dated_table, write_day
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, fingerprint
from mmssl_dist.storage.export_names import RECOMMENDATIONS

LIST_TABLE = "export.table.path"


def list_table(job: Job, day: str | None = None) -> DatedTable | None:
    """The table that ``job`` names, for the day that it names, else ``day``, else today's in UTC; None where
    it names no table."""
    settings = job.export.table
    if settings is None:
        return None
    return open_dated_table(
        settings.path,
        job.storage,
        table_format=settings.format,
        day=settings.date or day or today(),
        option=LIST_TABLE,
    )


def check_list_table(job: Job) -> None:
    """Look at the table that ``job`` names; nothing is written.

    Raises:
        InputError: rows cannot be written there, see ``DatedTable.check``; or data is read from there.
    """
    table = list_table(job)
    if table is None:
        return
    # ``config.rules`` compares what the two are called; links count too
    table.require_apart(RunFolder.of(job).root)
    setting = reading_setting(job, table.location, f"{table.folder}/{table.file_name('0' * 64, '0')}")
    if setting is not None:
        raise InputError(
            LIST_TABLE,
            table.location.url,
            f"{setting} reads from there, and lists must not become data to train on",
            "Keep the table elsewhere.",
        )
    table.check(None)


def lists_fingerprint(export: Manifest) -> str:
    """Equal for equal lists."""
    return fingerprint("list table", {name: record.sha256 for name, record in _lists(export).items()})


def write_list_table(job: Job, export: Manifest, table: DatedTable, run_tasks: RunTasks) -> int:
    """Make the lists of the published ``export`` the table's rows of its day; returns how many rows.

    Raises as ``write_day``."""
    files = ListFiles(RunFolder.of(job).export.location, _lists(export))
    return write_day(table, files, lists_fingerprint(export), run_tasks)


def _lists(export: Manifest) -> dict[str, FileRecord]:
    return {n: record for n, record in export.files.items() if n.startswith(f"{RECOMMENDATIONS}/")}
