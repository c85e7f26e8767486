"""How many requests a second `serve` answers on this machine, how fast, how well, and whether it goes in
peace.

`make serving` runs it: an export of made-up rows (kept in --folder for the next time), the real command, wrk
as the
client. Ends with status 1 where a request failed, the recall is below 0.95 or the drain was not clean.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mmssl_dist.serving.run import Run, open_run
from tests.benchmarks.large_export import Size, publish_large
from tests.clusters import ROOT, free_port

K = 20
RECALL = 0.95
_SCRIPT = Path(__file__).with_name("requests.lua")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/serving"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="setting of the export's job"
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    size = Size(options.users, options.items)
    run = _run(options.folder, size, tuple(options.set))
    with served(options.folder, options.replicas) as (process, port):
        _load(port, size.users, options.connections, 10)  # the first answers are slower
        result = _measured(process, port, options)
        result["recall"] = recall_over_http(run, port, size.users)
        result["index"] = run.facts["index"]
        result["drain"] = drain(process, port)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    good = not any(result["errors"].values()) and result["recall"] >= RECALL and result["drain"]["clean"]
    sys.exit(0 if good else 1)


def _run(folder: Path, size: Size, sets: tuple[str, ...]) -> Run:
    """The export in ``folder``; made if there is none of these sizes and settings."""
    made = folder / "made.json"
    wanted = json.dumps([size.users, size.items, *sets])
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _say(f"making an export of {size.items:,} items")
        publish_large(folder / "run", size, sets)
        made.write_text(wanted)
    return open_run(str(folder / "run"))


@contextmanager
def served(folder: Path, replicas: int) -> Iterator[tuple[psutil.Popen, int]]:
    """The process of `serve`, once it answers, and its port."""
    port = free_port()
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "serve",
        "run",
        f"--port={port}",
        f"--replicas={replicas}",
    ]
    started = time.monotonic()
    process = psutil.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        if not process.stdout.readline().startswith("serving run"):
            sys.exit("serve did not start")
        _say(f"serves after {time.monotonic() - started:.0f} s")
        yield process, port
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(90)


def _load(port: int, users: int, connections: int, seconds: float) -> Any:
    command = [
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={max(1, round(seconds))}s",
        "--timeout=10s",
        f"--script={_SCRIPT}",
        f"http://127.0.0.1:{port}",
        "--",
        str(users),
        str(K),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measured(process: psutil.Popen, port: int, options: argparse.Namespace) -> dict[str, Any]:
    before, load_before = _cpu_seconds(process), os.getloadavg()[0]
    others_before = psutil.cpu_times()
    result: dict[str, Any] = _load(port, options.users, options.connections, 60 * options.minutes)
    after, others = _cpu_seconds(process), psutil.cpu_times()
    result["requests_per_second"] = round(result["requests"] / result["seconds"], 1)
    spent: Counter[str] = Counter()
    for number, (name, seconds) in after.items():
        spent[name] += seconds - before.get(number, (name, 0.0))[1]
    result["cpu_ms_per_request"] = {
        name: round(1000 * seconds / max(1, result["requests"]), 3)
        for name, seconds in sorted(spent.items(), key=lambda each: -each[1])
        if seconds > 0.1
    }
    busy = sum(others) - sum(others_before) - (others.idle - others_before.idle)
    result["cores"] = {
        "machine": os.cpu_count(),
        "service": round(sum(spent.values()) / result["seconds"], 2),
        "busy": round(busy / result["seconds"], 2),
    }
    result["load_average"] = [round(load_before, 1), round(os.getloadavg()[0], 1)]
    result["connections"], result["replicas"] = options.connections, options.replicas
    return result


def _cpu_seconds(process: psutil.Popen) -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of each of the service's processes, by number: Ray renames one by what it does."""
    result = {}
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
            title = " ".join(each.cmdline())
            name = re.split(r"[.\s]", title)[0] if title.startswith("ray::") else each.name()
        except psutil.Error:
            continue
        result[each.pid] = name, times.user + times.system
    return result


def recall_over_http(run: Run, port: int, users: int, asked: int = 300) -> float:
    """The share of the exact top K, unseen, that the service answered; one that scores as the last counts as
    found."""
    chosen = [f"u{user}" for user in np.random.default_rng(1).choice(users, min(asked, users), replace=False)]
    exact = run.recommend(chosen, K, exact=True)
    assert isinstance(exact, list)
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    result = 0
    for user, best in zip(chosen, exact, strict=True):
        connection.request("GET", f"/recommend?user={user}&k={K}")
        answer = json.loads(connection.getresponse().read())["items"]
        rows = run.item_embeddings[run.items.positions([each["item"] for each in answer])]
        scores = rows @ run.user_embeddings[run.users.position(user)]
        result += int((scores >= best.scores[-1] - 1e-5 * abs(best.scores[-1])).sum())
    return result / (K * len(chosen))


def drain(process: psutil.Popen, port: int, clients: int = 16) -> dict[str, Any]:
    """SIGTERM while clients ask without a pause, each on a connection that it keeps. Clean: what was asked
    before was answered 200, what came later got 200, 503 or no connection, and the command ended with
    status 0."""
    outcomes: list[tuple[float, int | str]] = []
    over = threading.Event()

    def keep_asking(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        while not over.is_set():
            asked = time.monotonic()
            try:
                connection.request("GET", f"/recommend?user=u{number}&k={K}")
                response = connection.getresponse()
                response.read()
                outcomes.append((asked, response.status))
            except (OSError, HTTPException) as error:
                connection.close()
                outcomes.append((asked, type(error).__name__))
                over.wait(0.05)

    threads = [threading.Thread(target=keep_asking, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    stopped = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status = process.wait(90)
    seconds = time.monotonic() - stopped
    over.set()
    for thread in threads:
        thread.join()
    before = Counter(str(outcome) for asked, outcome in outcomes if asked < stopped)
    after = Counter(str(outcome) for asked, outcome in outcomes if asked >= stopped)
    answered = {outcome for outcome in after if outcome.isdigit()}
    clean = status == 0 and set(before) == {"200"} and answered <= {"200", "503"}
    return {"clean": clean, "status": status, "seconds": round(seconds, 1), "before": before, "after": after}


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
