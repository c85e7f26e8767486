"""What follows an export where the job names a table: the lists become its rows of a day."""

from __future__ import annotations

import logging
import time

from mmssl_dist.launch.list_table import lists_fingerprint, write_list_table
from mmssl_dist.pipeline.engine import Pipeline
from mmssl_dist.report.progress import count, duration, skipped_line
from mmssl_dist.serving.dated.dated_table import DatedTable
from mmssl_dist.storage import Manifest

_logger = logging.getLogger(__name__)
_STEP = "table"


def update_list_table(pipeline: Pipeline, export: Manifest, table: DatedTable, force: bool) -> None:
    """Write the lists of ``export`` to the table, unless it has them for its day.

    Raises:
        InputError: as ``DatedTable.check``.
        StorageError: as ``DatedTable.commit``. Rerunning the export command then writes the table alone.
    """
    url = f"{table.location.url}, {table.folder}"
    if not force and table.holds(lists_fingerprint(export)):
        _logger.info(skipped_line(_STEP, url))
        return
    started = time.monotonic()
    pipeline.cluster.announce(_STEP)
    pipeline.cluster.connect()  # an unshared folder is known before anything is written
    rows = write_list_table(pipeline.job, export, table, pipeline.cluster.run_tasks)
    _logger.info("%s: %s rows, %s (%s)", _STEP, count(rows), url, duration(time.monotonic() - started))
