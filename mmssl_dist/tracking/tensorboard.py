"""TensorBoard's event files: figures by epoch, and at the end of a run its settings beside its final metrics.

Events and their checksums are tensorboardX's; TensorBoard itself only shows the files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.connection import describe
from mmssl_dist.config import Job
from mmssl_dist.storage import Location, RunFolder
from mmssl_dist.tracking.description import parameters
from mmssl_dist.tracking.metric_names import final_metrics, tracked_name

_logger = logging.getLogger(__name__)

TENSORBOARD = "tensorboard"
_FINAL = ".final-"  # in the names of files with final metrics, before the hash of what they hold


class TensorBoard:
    """An event file in ``folder``. On a disk events are appended; an object is written whole after every
    epoch, from memory.

    Args:
        suffix: of the file's name; by default one that no other file has.
    """

    name = "TensorBoard"

    def __init__(self, folder: Location, suffix: str | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event

        # The suffix keeps starts within a second apart.
        suffix = suffix or f".{uuid.uuid4().hex[:8]}"
        self._file = folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}{suffix}"
        self._uploaded = b""
        if folder.is_local:
            Path(folder.path).mkdir(parents=True, exist_ok=True)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

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
        self._append(
            *(
                Event(wall_time=time.time(), step=step, summary=summary)
                for summary in (*summaries, Summary(value=scalars))
            )
        )

    def _append(self, *events: Any) -> None:
        records = b"".join(_record(event.SerializeToString()) for event in events)
        if self._file.is_local:
            with Path(self._file.path).open("ab") as file:
                file.write(records)
        else:
            # Whole files, since objects cannot be appended to; a training writes a few kilobytes an epoch.
            self._uploaded += records
            self._file.write_bytes(self._uploaded)


def _record(content: bytes) -> bytes:
    """``content`` as a TFRecord: length, checksum of the length, content, checksum of the content."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + checksums[0] + content + checksums[1]


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
