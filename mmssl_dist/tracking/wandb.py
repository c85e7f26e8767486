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
import netrc
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmssl_dist.cluster.connection import describe
from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.storage import RunFolder
from mmssl_dist.tracking.description import settings, shared_files, tags, without_password
from mmssl_dist.tracking.identity import tracked_identity
from mmssl_dist.tracking.metric_names import figures_of, final_metrics, tracked_name

_logger = logging.getLogger(__name__)

_WANDB = "wandb"  # folder below the output
_FINAL = "final-"  # in the names of files that say what was written, before its hash
_START_SECONDS = 60.0
_UPLOAD_SECONDS = 600
# Keys that are noted for the second are good for the first, W&B's own service.
_FORMER_HOSTS = {"api.forge.coreweave.com": "api.wandb.ai"}


def check_wandb(job: Job) -> None:
    """Check that W&B's client is installed, and has an API key unless it works offline, where the job names
    a project. Starts no process of W&B's, which children would inherit.

    Raises:
        InputError: it isn't, or has none, or what it is read from is invalid.
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
        self._run = wandb.init(
            entity=entity[0] if entity else None,
            project=project,
            name=Path(job.output).name,
            id=_identity(job, run),
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
        for name, content in shared_files(job):
            path = Path(self._run.dir) / name
            path.write_bytes(content)
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
        named = final_metrics(metrics)
        project = [_identity(job, run), job.tracking.wandb, job.tracking.wandb_mode]
        facts = [*project, settings(job), history, named]
        content = json.dumps(facts, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        written = RunFolder.of(job).root / _WANDB / f"{_FINAL}{digest}"
        # A run that is repeated with nothing to do writes nothing.
        if not written.exists():
            WandbRun(job, run).end(job, history, metrics)
            written.write_bytes(b"")
    except Exception as error:  # noqa: BLE001, the job is done whatever W&B says
        _logger.warning("W&B: the end of this run was not recorded (%s)", describe(error))


def _identity(job: Job, run: str) -> str:
    return hashlib.sha256(tracked_identity(job, run).encode()).hexdigest()[:16]


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
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings()
    if settings.api_key:
        return True
    host = urlsplit(settings.base_url).netloc
    return any(_is_in_netrc(name) for name in (host, _FORMER_HOSTS.get(host)) if name)


def _settings() -> Any:
    """W&B's settings from its file, where `wandb login --host` notes the server, and the variable for it."""
    settings = _client().Settings(silent=True)
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings.settings_system = str(folder / "settings")
    settings.update_from_system_settings()
    if server := os.environ.get("WANDB_BASE_URL"):
        try:
            settings.base_url = server
        except ValueError:
            raise InputError(
                "WANDB_BASE_URL",
                without_password(server),
                "it must be the URL of a W&B server",
                "Correct it, or unset it for W&B's own.",
            ) from None
    return settings


def _is_in_netrc(host: str) -> bool:
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    path = next((file for file in (name.expanduser() for name in files) if file.exists()), None)
    if path is None:
        return False
    try:
        entry = netrc.netrc(path).authenticators(host)
    except UnicodeDecodeError:
        raise InputError(
            str(path),
            "bytes that are not UTF-8",
            "W&B looks for its API key there",
            "Save it as UTF-8, or set WANDB_API_KEY.",
        ) from None
    except (OSError, netrc.NetrcParseError):
        return False
    return entry is not None and bool(entry[2])
