"""A training as a run of Weights & Biases: its settings, metrics by epoch, final metrics, job.yaml and
report.html.

W&B's own process writes what it receives some seconds later, and Ray ends it with Ray Train's controller.
So the end of a job writes again what is missing, from the published history, and an offline run is written
there alone, whole and in one folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.connection import describe
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.storage import RunFolder
from mmssl_dist.tracking.description import REPORTS, settings, tags
from mmssl_dist.tracking.metric_names import figures_of, final_metrics, tracked_name

_logger = logging.getLogger(__name__)

_WANDB = "wandb"  # folder below the output
_FINAL = "final-"  # in the names of files that say what was written, before its hash
_START_SECONDS = 60.0
_UPLOAD_SECONDS = 600


def check_wandb(job: Job) -> None:
    """Check that W&B's client is installed, and has an API key unless it works offline, where the job names
    a project.

    Raises:
        InputError: it isn't, or has none.
    """
    project, mode = job.tracking.wandb, job.tracking.wandb_mode
    if project is None:
        return
    if importlib.util.find_spec("wandb") is None:
        raise InputError(
            "tracking.wandb",
            project,
            "Weights & Biases must be installed for it",
            "Run `pip install 'mmssl-dist[wandb]'`, or remove the setting.",
        )
    if mode == "online" and not _has_key():
        raise InputError(
            "tracking.wandb",
            project,
            "W&B needs an API key, and neither WANDB_API_KEY nor ~/.netrc has one",
            "Set WANDB_API_KEY, run `wandb login`, or set tracking.wandb_mode to offline.",
        )


class WandbRun:
    """The run of a training; one that is resumed continues in the same run.

    Args:
        run: name of the run's folder, which distinguishes trainings of one output.
    """

    name = "W&B"

    def __init__(self, job: Job, run: str) -> None:
        wandb = _client()
        assert job.tracking.wandb is not None, "a job that names no project has no run there"
        *entity, project = job.tracking.wandb.split("/")
        output = RunFolder.of(job).root
        self._temporary = None if output.is_local else tempfile.mkdtemp(prefix="mmssl-wandb-")
        folder = Path(self._temporary or output.path)
        folder.mkdir(parents=True, exist_ok=True)
        # Made of what distinguishes the run, so that every process continues the same one.
        identity = hashlib.sha256(f"{job.output}/{run}".encode()).hexdigest()[:16]
        self._run = wandb.init(
            entity=entity[0] if entity else None,
            project=project,
            name=Path(job.output).name,
            id=identity,
            resume="allow",
            mode=job.tracking.wandb_mode,
            dir=folder,
            config=settings(job),
            allow_val_change=True,
            # Without touching a run that the calling program has open.
            reinit="create_new",
            settings=_quiet(wandb),
        )
        self._first = int(self._run.step)  # the first step that W&B does not have

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Figures of a validated epoch; one that W&B has already is left out."""
        if epoch >= self._first:
            named = {tracked_name(name): value for name, value in figures.items()}
            self._run.log(named, step=epoch, commit=True)
            self._first = epoch + 1

    def end(self, job: Job, history: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]) -> None:
        """Epochs that are missing, the final metrics and the files of the output that a reader wants."""
        for entry in history:
            self.epoch(int(entry["epoch"]), figures_of(entry))
        self._run.summary.update(final_metrics(metrics))
        self._run.config.update(tags(job), allow_val_change=True)
        output = RunFolder.of(job).root
        for name in REPORTS:
            path = Path(self._run.dir) / name
            path.write_bytes((output / name).read_bytes())
            self._run.save(str(path), base_path=self._run.dir, policy="now")
        self._run.finish()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)


def end_wandb(job: Job, run: str, history: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]) -> None:
    """Close the run of a whole job, once, where it names a project; a failure is only warned of.

    Args:
        run: name of the training's folder.
        history: what ``train`` published of every validated epoch.
        metrics: what ``evaluate`` published.
    """
    if job.tracking.wandb is None:
        return
    try:
        facts = [run, job.tracking.wandb, settings(job), history, final_metrics(metrics)]
        content = json.dumps(facts, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        written = RunFolder.of(job).root / _WANDB / f"{_FINAL}{digest}"
        # A run that is repeated with nothing to do writes nothing.
        if not written.exists():
            WandbRun(job, run).end(job, history, metrics)
            written.write_bytes(b"")
    except Exception as error:  # noqa: BLE001, the job is done whatever W&B says
        _logger.warning("W&B: the end of this run was not recorded (%s)", describe(error))


def _client() -> Any:
    # Reports of W&B's own failures, which it sends to its makers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _quiet(wandb: Any) -> Any:
    """What W&B does of itself is left out: the terminal, the machine, its load, the working directory's
    code."""
    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        finish_timeout=_UPLOAD_SECONDS,
        finish_timeout_raises=True,
        init_timeout=_START_SECONDS,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _has_key() -> bool:
    """Whether W&B finds credentials without asking, as its client looks for them."""
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    # The variable, or what `wandb login --host` has noted.
    server = os.environ.get("WANDB_BASE_URL") or _client().setup().settings.base_url
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(server).netloc)
    except (OSError, netrc.NetrcParseError):
        return False
    return entry is not None and bool(entry[2])
