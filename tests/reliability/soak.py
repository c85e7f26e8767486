"""The soak: a long training with a kill every few minutes, beside what an undisturbed one does.

    python -m tests.reliability.soak [--minutes 60] [--between 5] [--seed 1] [--workers 2] [--out FILE]

Workers and drivers are killed at random moments, ``--between`` minutes apart on average; a killed driver's command is
given again. The first epochs must be those of an undisturbed run, loss by loss and metric by metric, memory and file
handles must not grow within a process's life, and no process may be left. Exits 1 when one of these fails.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.reliability import faults
from tests.reliability.target import ARTIFACTS, Command, left_over, local, prepare_target

UNDISTURBED = 8
"""Epochs of the undisturbed run."""
_LOOK_SECONDS = 5.0
_SHORT_LIFE = 12  # looks; a process that lived less tells nothing of growth


@dataclass
class Lives:
    """Memory (bytes) and file handles of each process, look by look."""

    looks: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)

    def look(self, command: Command) -> None:
        for process in [psutil.Process(command.process.pid), *command.descendants()]:
            try:
                name = process.cmdline()[0].split("/")[-1]
                name = "driver" if process.pid == command.process.pid else name
                seen = process.memory_info().rss, process.num_fds()
            except (psutil.Error, IndexError):
                continue
            if name.startswith(("driver", "ray::RayTrain", "ray::TrainController", "raylet")):
                self.looks.setdefault((name, process.pid), []).append(seen)

    def growth(self) -> dict[str, dict[str, float]]:
        """By kind of process, over its longest life: minutes, and the change from its second quarter to its last."""
        result = {}
        for name in sorted({name for name, _ in self.looks}):
            life = max((looks for (kind, _), looks in self.looks.items() if kind == name), key=len)
            if len(life) >= _SHORT_LIFE:
                quarter = len(life) // 4
                early, late = np.median(life[quarter : 2 * quarter], 0), np.median(life[-quarter:], 0)
                result[name] = {
                    "minutes": len(life) * _LOOK_SECONDS / 60, "megabytes": late[0] / 1e6,
                    "megabytes grown": (late[0] - early[0]) / 1e6, "handles": late[1],
                    "handles grown": late[1] - early[1],
                }  # fmt: skip
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--between", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file with what was found")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        found = soak(Path(name), arguments.minutes, arguments.between, arguments.workers, arguments.seed)
    text = json.dumps(found, indent=1)
    if arguments.out:
        arguments.out.write_text(text)
    sys.stdout.write(text + "\n")
    sys.exit(not found["passed"])


def soak(folder: Path, minutes: float, between: float, workers: int, seed: int) -> dict[str, object]:
    """Run it. "passed" says whether all held."""
    rng = random.Random(seed)
    prepare_target(folder)
    common = [f"scaling.workers={workers}", "evaluation.patience=1000000", "training.checkpoint_minutes=0.5",
              "training.max_failures=1000", "output=out"]  # fmt: skip
    for stage in ("prepare", "partition"):
        assert Command(folder, stage, common).end() == 0, stage
    undisturbed = Command(folder, "train", [*common, f"training.epochs={UNDISTURBED}"])
    assert undisturbed.end() == 0, "\n".join(undisturbed.lines)
    expected = _curve(folder)
    per_epoch = float(np.median([entry["train_seconds"] + entry["validation_seconds"] for entry in expected]))
    epochs = max(2 * UNDISTURBED, round(60 * minutes / per_epoch))
    sets = [*common, f"training.epochs={epochs}"]

    lives, kills, started = Lives(), {"worker": 0, "driver": 0}, time.monotonic()
    lines: list[str] = []
    commands = []
    while True:
        command = Command(folder, "train", sets)
        commands.append(command)
        killed = False
        next_kill = time.monotonic() + rng.expovariate(1 / (60 * between))
        while command.process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            if command.process.poll() is None:
                lives.look(command)
            if time.monotonic() > next_kill and time.monotonic() - started < 60 * minutes:
                if rng.random() < 0.3:
                    faults.kill_driver(command)
                    kills["driver"] += 1
                    killed = True
                elif faults.kill_worker(command, rng):
                    kills["worker"] += 1
                next_kill = time.monotonic() + rng.expovariate(1 / (60 * between))
        status = command.end()
        lines += command.lines
        if not killed or status == 0:
            break
    took = (time.monotonic() - started) / 60
    curve = _curve(folder) if status == 0 else []
    same = [_plain(entry) for entry in curve[:UNDISTURBED]] == [_plain(entry) for entry in expected]
    growth = lives.growth()
    left = left_over(commands)
    steady = all(g["megabytes grown"] < 0.1 * g["megabytes"] and g["handles grown"] < 20 for g in growth.values())
    best = [max(entry["recall@20"] for entry in part) if part else None for part in (expected, curve[:UNDISTURBED])]
    passed = status == 0 and same and not left and steady and len(curve) == epochs
    return {
        "passed": passed, "minutes": round(took, 1),
        "kills": kills, "epochs": len(curve), "epochs asked for": epochs, "status": status,
        "first epochs equal to undisturbed": same, "best recall@20 of them, undisturbed and here": best,
        "growth": growth, "left over": left, "errors": [line for line in lines if line.startswith("error")],
    }  # fmt: skip


def _curve(folder: Path) -> list[dict[str, float]]:
    manifest = local(folder / "out").manifest("train")
    assert manifest is not None, ARTIFACTS["train"]
    history: list[dict[str, float]] = manifest["facts"]["history"]
    return history


def _plain(entry: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if not name.endswith("_seconds")}


if __name__ == "__main__":
    main()
