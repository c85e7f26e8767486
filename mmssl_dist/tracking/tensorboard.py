"""TensorBoard's event files: figures by epoch, and at the end of a run its settings beside its final metrics.

They are written by tensorboardX; TensorBoard itself only shows them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.connection import describe
from mmssl_dist.config import Job
from mmssl_dist.storage import Location, RunFolder
from mmssl_dist.tracking.metric_names import final_metrics, tracked_name
from mmssl_dist.tracking.mlflow import parameters

_logger = logging.getLogger(__name__)

TENSORBOARD = "tensorboard"
_FINAL = ".final-"  # in the names of files with final metrics, before the hash of what they hold


class TensorBoard:
    """Event files in ``folder``; for object storage they are written here and uploaded after every epoch.

    Args:
        suffix: of the file's name; by default one that no other file has.
    """

    name = "TensorBoard"

    def __init__(self, folder: Location, suffix: str | None = None) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self.folder = folder
        self._local = Path(folder.path if folder.is_local else tempfile.mkdtemp(prefix="mmssl-tensorboard-"))
        self._local.mkdir(parents=True, exist_ok=True)
        # the usual writer flushes at some time and changes names; the suffix tells starts within a second
        # apart
        self._writer = EventsWriter(str(self._local / "events"), suffix or f".{uuid.uuid4().hex[:8]}")

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a validated epoch."""
        self._write(epoch, {tracked_name(name): value for name, value in figures.items()})

    def final(self, settings: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Write a run's settings, as hyperparameters, and its final metrics, by their names."""
        from tensorboardX.summary import hparams

        self._write(0, metrics, *hparams(dict(settings), dict(metrics)))

    def _write(self, step: int, values: Mapping[str, float], *summaries: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        for summary in (*summaries, Summary(value=scalars)):
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()
        if not self.folder.is_local:
            # Whole files, since objects can't be appended to; one start of a training writes a few kilobytes
            # an epoch.
            for path in self._local.iterdir():
                (self.folder / path.name).write_bytes(path.read_bytes())


def end_tensorboard(job: Job, run: str, metrics: Mapping[str, Any]) -> None:
    """Write the final metrics of a whole job, once; a failure is only warned of."""
    try:
        named, settings = final_metrics(metrics), dict(parameters(job))
        content = json.dumps([settings, named], sort_keys=True)
        suffix = f"{_FINAL}{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        folder = RunFolder.of(job).root / TENSORBOARD / run
        # A run that is repeated with nothing to do writes nothing.
        if not (folder.exists() and any(file.path.endswith(suffix) for file in folder.files())):
            TensorBoard(folder, suffix).final(settings, named)
    except Exception as error:  # noqa: BLE001, the job is done whatever the event files say
        _logger.warning("TensorBoard: the end of this run was not recorded (%s)", describe(error))
