"""What is known of a search's trials, one JSON file each: enough to resume after whatever ended the search.

Ray Tune's own state is pickled, and an output may be written by others; so nothing is restored from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mmssl_dist.errors import ArtifactError
from mmssl_dist.storage import Location

State = Literal["running", "finished", "stopped", "diverged", "failed"]
_ENDED = ("finished", "stopped", "diverged")  # what failed otherwise is tried again by the next command


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training with some settings.

    Attributes:
        number: from 1.
        settings: values by dotted path.
        state: finished: to its last epoch or its patience; stopped: by ASHA; diverged: a loss was not finite.
        values: the validation metric by epoch.
        seconds: spent on it.
        message: what it failed of.
    """

    number: int
    settings: Mapping[str, Any]
    state: State = "running"
    values: Mapping[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state in _ENDED

    @property
    def best(self) -> float | None:
        """Largest value of the metric."""
        return max(self.values.values(), default=None)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with that value."""
        # The first of equals, as early stopping counts it too.
        return min((epoch for epoch, value in self.values.items() if value == self.best), default=None)

    @property
    def is_candidate(self) -> bool:
        """Whether its settings can be chosen: a training with those of one that diverged would diverge
        too."""
        return self.best is not None and self.state != "diverged"

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.values, default=0)


_TRIAL = TypeAdapter(Trial)


def read_trials(folder: Location) -> list[Trial]:
    """The trials of the search in ``folder``, by number.

    Raises:
        ArtifactError: a file is not readable as one.
    """
    files = [folder / folder.relative(info) for info in folder.files() if _is_trial(folder.relative(info))]
    return sorted((_read(file) for file in files), key=lambda trial: trial.number)


def write_trial(folder: Location, trial: Trial) -> None:
    """Keep what is known of ``trial``."""
    (folder / f"trial-{trial.number:05d}.json").write_bytes(_TRIAL.dump_json(trial, indent=1))


def best_first(trials: list[Trial]) -> list[Trial]:
    """Those with the best value of the metric first; of equal ones the earlier; after them those that cannot
    be chosen."""
    return sorted(trials, key=lambda t: (not t.is_candidate, -(t.best or 0.0), t.number))


def row(trial: Trial) -> dict[str, Any]:
    """A trial as a line of a table."""
    fields = asdict(trial)
    return {
        "trial": trial.number,
        "state": trial.state,
        "best": trial.best,
        "best_epoch": trial.best_epoch,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 1),
        **fields["settings"],
        "message": trial.message,
    }


# Runs and Ray Tune's own folder lie beside the files of the trials.
def _is_trial(name: str) -> bool:
    return "/" not in name and name.startswith("trial-") and name.endswith(".json")


def _read(file: Location) -> Trial:
    try:
        return _TRIAL.validate_json(file.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            f"{file.url}: not a readable trial ({str(error).splitlines()[0]}). Delete it, or start the "
            "search over with --force."
        ) from error
