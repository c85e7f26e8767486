"""What this version takes beside another one, in turns: python benchmarks/against.py OTHER [--rounds N]

OTHER is a checkout of this project, such as `git worktree add ../other 7d2291c` makes. Both run in the Python
of this one. Writes docs/results/speed.json, which docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmssl_dist.cluster.connection import worker_environment
from mmssl_dist.config.resource_sections import Scaling, Storage

ROOT = Path(__file__).resolve().parents[1]
ROWS = 20_000
MEASURED: dict[str, tuple[list[Any], float | None, float | None]] = {
    "sampling, all losses, 1,024 pairs, DGL's draws": (["sampling", "all", 1024, "dgl"], 0.6, 0.45),
    "sampling, all losses, 8,192 pairs, DGL's draws": (["sampling", "all", 8192, "dgl"], 0.6, 0.45),
    "step, BPR, 1,024 pairs": (["step", "bpr", 1024], 0.65, 0.5),
    "step, all losses, 1,024 pairs": (["step", "all", 1024], 0.85, 0.7),
    f"whole neighbourhoods of {ROWS:,} nodes": (["neighbourhoods", ROWS], 0.45, 0.3),
    "row update, 88,000 rows": (["update"], None, None),
    "InfoNCE, 4,096 users": (["info_nce"], 0.85, 0.7),
}
"""Figure: what to ask a probe; bar and aim of the ratio, this version / the other."""
OURS_ALONE: dict[str, list[Any]] = {
    "read": ["read"],
    "update": ["update"],
    "keyed": ["drawn", ROWS, "device"],
    "dgl": ["drawn_by_dgl", ROWS],
    "by keys, 1,024": ["sampling", "all", 1024, "device"],
    "by keys, 8,192": ["sampling", "all", 8192, "device"],
}


class Probe:
    """``speed_probe.py`` with the code of ``version``, kept running."""

    def __init__(self, version: Path) -> None:
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(ROOT / "benchmarks/speed_probe.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=version,
            env=environment_of(version),
        )

    def ask(self, question: list[Any]) -> float:
        """Seconds or bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the probe ended with status {self.process.wait()} at {question}")
            try:
                return float(line)
            except ValueError:  # a message of a library
                continue

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    other, rounds = options.other.resolve(), options.rounds
    commit = commit_of(other)
    probes = Probe(other), Probe(ROOT)
    try:
        before, now = _least(probes, {name: asked for name, (asked, *_) in MEASURED.items()}, rounds)
        (alone,) = _least(probes[1:], OURS_ALONE, rounds)
        held = [probe.ask(["info_nce_bytes"]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
    rows = [
        _row(name=name, before=before[name] * 1e3, now=now[name] * 1e3, unit="ms", bar=bar, aim=aim)
        for name, (_, bar, aim) in MEASURED.items()
    ]
    rows.append(
        _row(
            name="InfoNCE, 4,096 users, most memory",
            before=held[0] / 1e6,
            now=held[1] / 1e6,
            unit="MB",
            bar=0.15,
            aim=0.1,
        )
    )
    counts = [_collectives(version) for version in (other, ROOT)]
    sums = [sum(count.values()) for count in counts]
    rows.append(
        [
            "collectives of a step, two workers, all losses",
            f"{sums[0]}, {counts[0]['sampling']} of them sampling's",
            f"{sums[1]}, {counts[1]['sampling']} of them sampling's",
            f"{sums[1] / sums[0]:.2f}",
            "16 collectives",
            "12 collectives",
        ]
    )
    ratio = alone["update"] / alone["read"]
    rows.append(["row update / reading the same rows", "", f"{ratio:.1f}", "", "2.5", "1.8"])
    edges = 10 * ROWS / 1e6
    rows.append(
        [
            "drawn edges a second: by keys / DGL's `sample_neighbors`",
            "",
            f"{edges / alone['keyed']:.1f} / {edges / alone['dgl']:.1f} million",
            f"{alone['dgl'] / alone['keyed']:.2f}",
            "1.3",
            "2",
        ]
    )
    for pairs in ("1,024", "8,192"):
        dgl, keyed = before[f"sampling, all losses, {pairs} pairs, DGL's draws"], alone[f"by keys, {pairs}"]
        name = f"sampling, all losses, {pairs} pairs, draws by keys instead"
        rows.append(_row(name=name, before=dgl * 1e3, now=keyed * 1e3, unit="ms", bar=None, aim=None))
    provenance = (
        f"benchmarks/against.py, {rounds} rounds in turns, {commit} beside "
        f"{commit_of(ROOT)}; least processor time of one thread; load average "
        f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    )
    columns = ["figure", commit, "this version", "ratio", "bar", "aim"]
    content = {"provenance": provenance, "columns": columns, "rows": rows}
    (ROOT / "docs/results/speed.json").write_text(json.dumps(content, indent=1) + "\n")


def _least(probes: tuple[Probe, ...], questions: dict[str, list[Any]], rounds: int) -> list[dict[str, float]]:
    """The least answer to each question, probe by probe; a first round warms them up."""
    answers: list[dict[str, list[float]]] = [{name: [] for name in questions} for _ in probes]
    for number in range(rounds + 1):
        for name, question in questions.items():
            for probe, mine in zip(probes, answers, strict=True):
                seconds = probe.ask(question)
                if number:
                    mine[name].append(seconds)
    return [{name: min(seconds) for name, seconds in mine.items()} for mine in answers]


def _row(name: str, before: float, now: float, unit: str, bar: float | None, aim: float | None) -> list[str]:
    digits = 1 if now < 100 else 0
    texts = ["" if x is None else f"{x:g}" for x in (bar, aim)]
    return [name, f"{before:.{digits}f} {unit}", f"{now:.{digits}f} {unit}", f"{now / before:.2f}", *texts]


def _collectives(version: Path) -> dict[str, int]:
    command = [sys.executable, str(ROOT / "benchmarks/count_collectives.py")]
    done = subprocess.run(  # noqa: S603
        command, cwd=version, env=environment_of(version), capture_output=True, text=True, check=True
    )
    counts: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return counts


def environment_of(version: Path) -> dict[str, str]:
    """Variables of a process that runs the code of ``version``, as its workers have them."""
    variables = worker_environment(Scaling(), Storage())  # the same in either version
    return {**os.environ, **variables, "PYTHONPATH": str(version), "OMP_NUM_THREADS": "1"}


def commit_of(version: Path) -> str:
    """The abbreviated commit that is checked out there."""
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(version), "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
