"""The command line in processes of its own, as a user runs it from a checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = (sys.executable, str(ROOT / "cli.py"))


def command(folder: Path, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Run ``mmssl-dist`` in ``folder`` to its end."""
    return subprocess.run(
        [*_COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=timeout,
    )


def succeed(folder: Path, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Run ``mmssl-dist`` in ``folder``, which must work."""
    done = command(folder, *arguments, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def synthesize(folder: Path, address: str, *options: str, **widths: int) -> None:
    """Made-up raw files in ``raw`` below ``folder``, by the Ray at ``address``; ``widths`` by modality."""
    modalities = (f"--modality={name}={width}" for name, width in widths.items())
    succeed(folder, "synthesize", "raw", *options, *modalities, "--address", address)


def kill_at(folder: Path, line: str, *arguments: str) -> list[str]:
    """``end_at`` by SIGKILL."""
    return end_at(folder, line, signal.SIGKILL, *arguments)


def end_at(folder: Path, line: str, by: signal.Signals, *arguments: str) -> list[str]:
    """Run ``mmssl-dist`` in ``folder`` and send it a signal when it writes a line that starts with ``line``;
    gives its lines."""
    process = subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    assert process.stderr is not None
    lines = []
    try:
        for text in process.stderr:
            lines.append(text.rstrip("\n"))
            if text.startswith(line):
                break
        process.send_signal(by)
        if by != signal.SIGKILL:
            lines += process.communicate(timeout=120)[1].splitlines()
    finally:
        process.kill()
    assert process.wait() in (-by, 128 + by), "\n".join(lines)
    return lines


def stages(lines: Sequence[str]) -> dict[str, str]:
    """What a run says of each stage: "up to date", or "done"."""
    result = {}
    for line in lines:
        stage, _, text = line.partition(": ")
        if text.startswith("up to date"):
            result[stage] = "up to date"
        elif text == "started":
            result[stage] = "done"
    return result


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
