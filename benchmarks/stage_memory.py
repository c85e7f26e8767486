"""Memory, processor time and wall time of a command with all that it starts:

    python benchmarks/stage_memory.py run RECORD.json COMMAND ARGUMENTS ...
    python benchmarks/stage_memory.py table RESULTS.json NAME=RECORD.json ...

Memory is counted as the kernel shares it out (PSS), so that pages which several processes map count once in
their sum. Read every ``--seconds``; a peak between two readings is missed, but for each process's own high
water mark of resident memory, which includes what it shares.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PROC = Path("/proc")
MARK = "MMSSL_MEASURED"
_TICKS = os.sysconf("SC_CLK_TCK")
_WORKER = "ray::"  # of whose processes the title begins so: tasks and actors


@dataclass
class Process:
    """What was seen of one process: bytes and seconds."""

    name: str
    peak: int = 0
    resident: int = 0
    seconds: float = 0.0


@dataclass
class Usage:
    """What was seen of a command. peak: bytes of all processes together. processes: by id and start time."""

    peak: int = 0
    wall: float = 0.0
    status: int = 0
    processes: dict[tuple[int, str], Process] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Processor seconds of all processes."""
        return sum(process.seconds for process in self.processes.values())

    def workers(self) -> list[Process]:
        """Tasks and actors, the largest first."""
        ours = [p for p in self.processes.values() if p.name.startswith(_WORKER)]
        return sorted(ours, key=lambda process: -process.peak)

    def record(self) -> dict[str, Any]:
        """As written: the processes with most memory, and the sums."""
        largest = sorted(self.processes.values(), key=lambda process: -process.peak)
        return {
            "peak": self.peak,
            "wall": round(self.wall, 1),
            "processor_seconds": round(self.seconds, 1),
            "status": self.status,
            "largest": [asdict(process) for process in largest[:12]],
        }


def measure(command: list[str], interval: float = 1.0) -> Usage:
    """Run a command to its end."""
    mark = f"{MARK}={uuid.uuid4().hex}"
    usage = Usage()
    started = time.monotonic()
    variables = {**os.environ, MARK: mark.removeprefix(f"{MARK}=")}
    with subprocess.Popen(command, env=variables) as running:  # noqa: S603
        marked: dict[tuple[int, str], bool] = {}
        while running.poll() is None:
            _read(usage, mark.encode(), marked)
            time.sleep(interval)
        usage.status = running.returncode
    usage.wall = time.monotonic() - started
    return usage


def _read(usage: Usage, mark: bytes, marked: dict[tuple[int, str], bool]) -> None:
    together = 0
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            key = int(folder.name), fields[19]
            # Marked by a variable and not by parent: Ray's processes outlive those that started them.
            if not marked.get(key) and mark not in (folder / "environ").read_bytes().split(b"\0"):
                marked[key] = False
                continue
            marked[key] = True
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            process = usage.processes.setdefault(key, Process(title[:120]))
            if title.startswith(_WORKER) and len(title) > len(_WORKER) and "IDLE" not in title:
                process.name = title[:120]
            process.seconds = (int(fields[11]) + int(fields[12])) / _TICKS
            shared = _kilobytes(folder / "smaps_rollup", "Pss:")
            process.peak = max(process.peak, shared)
            process.resident = max(process.resident, _kilobytes(folder / "status", "VmHWM:"))
            together += shared
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended meanwhile, or is another user's
    usage.peak = max(usage.peak, together)


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


COLUMNS = (
    "run",
    "GB of all processes at the peak",
    "GB of the largest task or worker",
    "processor seconds of all",
    "of the longest task or worker",
    "seconds",
)


def cells(name: str, record: dict[str, Any]) -> list[str]:
    """A row under COLUMNS."""
    ours = [process for process in record["largest"] if process["name"].startswith(_WORKER)]
    return [
        name,
        f"{record['peak'] / 1e9:.2f}",
        f"{max((process['peak'] for process in ours), default=0) / 1e9:.2f}",
        f"{record['processor_seconds']:.0f}",
        f"{max((process['seconds'] for process in ours), default=0):.0f}",
        f"{record['wall']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run")
    run.add_argument("record", type=Path)
    run.add_argument("command", nargs=argparse.REMAINDER)
    table = commands.add_parser("table")
    table.add_argument("results", type=Path)
    table.add_argument("records", nargs="+", help="NAME=RECORD.json")
    table.add_argument("--note", default="", help="what else is to be known of how the runs were made")
    options = parser.parse_args()
    if options.what == "run":
        usage = measure(options.command)
        options.record.write_text(json.dumps(usage.record(), indent=1) + "\n")
        sys.exit(usage.status)
    named = (text.rsplit("=", 1) for text in options.records)
    rows = [cells(name, json.loads(Path(file).read_text())) for name, file in named]
    provenance = "benchmarks/stage_memory.py" + (f"; {options.note}" if options.note else "")
    content = {"provenance": provenance, "columns": list(COLUMNS), "rows": rows}
    options.results.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
