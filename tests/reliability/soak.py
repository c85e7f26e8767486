"""The soak: an hour of training with a kill every few minutes, and what an undisturbed training gives.

    python -m tests.reliability.soak [--minutes 60] [--between 5] [--seed 1] [--workers 2] [--out FILE]

The same training again and again, until the time is up. Workers and drivers are killed at random moments,
``--between`` minutes apart on average; a killed driver's command is given again. Each training must end with
what the undisturbed one ended with, hash by hash; memory and file handles must not grow within a process's
life, and no process may be left. Exits 1 when one of these fails.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.reliability import faults
from tests.reliability.target import Command, left_over, local, prepare_target

_EPOCHS = 24  # of each training: some minutes on two cores
_LOOK_SECONDS = 5.0
_SHORT_LIFE = 12  # looks; a process that lived less tells nothing of growth


@dataclass
class Lives:
    """Memory (bytes) and file handles of each process, look by look."""

    looks: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)

    def look(self, command: Command) -> None:
        if command.process.poll() is not None:
            return
        for process in [psutil.Process(command.process.pid), *command.descendants()]:
            try:
                name = process.cmdline()[0].split("/")[-1]
                if name.startswith("ray::"):
                    name = name.split(".")[
                        0
                    ]  # an actor's title names the method that runs, as long as it runs
                name = "driver" if process.pid == command.process.pid else name
                seen = process.memory_info().rss, process.num_fds()
            except (psutil.Error, IndexError):
                continue
            if name.startswith(("driver", "ray::RayTrain", "ray::TrainController", "raylet")):
                self.looks.setdefault((name, process.pid), []).append(seen)

    def growth(self) -> dict[str, dict[str, float]]:
        """By kind of process, over its longest life: minutes, and the change from its second quarter to its
        last."""
        result = {}
        for name in sorted({name for name, _ in self.looks}):
            life = max(
                (looks for (process_name, _), looks in self.looks.items() if process_name == name), key=len
            )
            if len(life) >= _SHORT_LIFE:
                quarter = len(life) // 4
                early, late = np.median(life[quarter : 2 * quarter], 0), np.median(life[-quarter:], 0)
                result[name] = {
                    "minutes": len(life) * _LOOK_SECONDS / 60,
                    "megabytes": late[0] / 1e6,
                    "megabytes grown": (late[0] - early[0]) / 1e6,
                    "handles": late[1],
                    "handles grown": late[1] - early[1],
                }
        return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--between", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file with what was found")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        actual = soak(
            folder=Path(name),
            minutes=arguments.minutes,
            between=arguments.between,
            workers=arguments.workers,
            seed=arguments.seed,
        )
    text = json.dumps(actual, indent=1)
    if arguments.out:
        arguments.out.write_text(text)
    sys.stdout.write(text + "\n")
    sys.exit(not actual["passed"])


def soak(folder: Path, minutes: float, between: float, workers: int, seed: int) -> dict[str, object]:
    """Run it. "passed" says whether all held."""
    prepare_target(folder)
    sets = [
        f"scaling.workers={workers}",
        f"training.epochs={_EPOCHS}",
        "training.checkpoint_minutes=0.5",
        "training.max_failures=1000",
    ]
    for stage in ("prepare", "partition", "train"):
        command = Command(folder=folder, stage=stage, sets=[*sets, "output=undisturbed"])
        assert command.end() == 0, "\n".join(command.lines)
    expected = local(folder / "undisturbed").essence("train")
    killer = _Killer(random.Random(seed), 60 * between)
    same, errors = [], []
    started = time.monotonic()
    while time.monotonic() - started < 60 * minutes:
        output = folder / f"training-{len(same)}"
        for artifact in ("dataset", "partitions"):
            shutil.copytree(folder / "undisturbed" / artifact, output / artifact)
        errors += killer.train(folder, [*sets, f"output={output}"])
        same.append(local(output).essence("train") == expected)
        shutil.rmtree(output)
        sys.stderr.write(
            f"{(time.monotonic() - started) / 60:.1f} min: {sum(same)} of {len(same)} trainings equal the "
            f"undisturbed one, kills {killer.kills}, growth {killer.lives.growth()}, errors {errors}\n"
        )
    left, growth = left_over(killer.commands), killer.lives.growth()
    steady = all(
        g["megabytes grown"] < 0.1 * g["megabytes"] and g["handles grown"] < 20 for g in growth.values()
    )
    return {
        "passed": all(same) and steady and not left,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "kills": killer.kills,
        "trainings": len(same),
        "equal to the undisturbed one": sum(same),
        "growth": growth,
        "left over": left,
        "errors": errors,
    }


class _Killer:
    """Trains, and kills at random moments that are ``between`` seconds apart on average, over all
    trainings."""

    def __init__(self, rng: random.Random, between: float) -> None:
        self.rng, self.between = rng, between
        self.lives, self.kills, self.commands = Lives(), {"worker": 0, "driver": 0}, list[Command]()
        self._plan()

    def _plan(self) -> None:
        self._next = time.monotonic() + self.rng.expovariate(1 / self.between)

    def train(self, folder: Path, sets: list[str]) -> list[str]:
        """One training to its end, with its command given again after each kill of a driver; gives its
        errors."""
        while True:
            command = Command(folder=folder, stage="train", sets=sets)
            self.commands.append(command)
            killed = False
            while command.process.poll() is None:
                time.sleep(_LOOK_SECONDS)
                self.lives.look(command)
                if time.monotonic() > self._next:
                    killed |= self._kill(command)
            if command.end() == 0 or not killed:
                return [line for line in command.lines if line.startswith("error: ")]

    def _kill(self, command: Command) -> bool:
        """Whether the driver was killed."""
        if self.rng.random() < 0.3:
            faults.kill_driver(command)
            self.kills["driver"] += 1
            self._plan()
            return True
        if faults.kill_worker(command, self.rng):
            self.kills["worker"] += 1
            self._plan()
        return False


if __name__ == "__main__":
    main()
