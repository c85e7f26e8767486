"""The fault campaign: seeded faults at every stage, and what came of each.

    python -m tests.reliability.campaign [--seed 1] [--only KIND ...] [--few] [--out FILE]

Each case starts from artifacts of an undisturbed run, disturbs one stage, repeats the command if it failed,
and compares what is published with what the undisturbed run published: same hashes, same curve. Prints a
table, and exits 1
when anything was lost. A case that FILE has already is not run again: what was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from tests.clusters import added_machine, started_head
from tests.reliability import faults
from tests.reliability.cases import Case, Result, cases, table
from tests.reliability.target import (
    ARTIFACTS,
    EPOCHS,
    LARGE,
    STAGES,
    USUAL,
    Command,
    Failed,
    Published,
    left_over,
    local,
    prepare_target,
)
from tests.servers import REGION, client, serving, upload

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
BUCKET = "campaign"
_STORE_SECONDS = (
    900  # within which a stage ends whose every tenth request is sent again, and a few wait for silence
)


class Campaign:
    """Undisturbed runs in ``folder``, and cases beside them."""

    def __init__(self, folder: Path, sizes: tuple[int, int, int] = USUAL) -> None:
        self.folder, self.sizes = folder, sizes
        self.seconds: dict[tuple[str, int], float] = {}
        self.commands: list[Command] = []
        prepare_target(folder, sizes)

    @cached_property
    def large(self) -> Campaign:
        """The same on more data, so that a step lasts until the fault is there."""
        campaign = Campaign(self.folder / "large", LARGE)
        campaign.commands = self.commands
        return campaign

    def reference(self, workers: int, last: str) -> Path:
        """The folder of an undisturbed run, made once, as far as to the stage ``last``."""
        path = self.folder / f"reference-{workers}"
        for stage in STAGES[: STAGES.index(last) + 1]:
            if (stage, workers) not in self.seconds:
                command = self.command(stage, path, workers)
                if command.end() != 0:
                    raise Failed(f"undisturbed {stage}:\n" + "\n".join(command.lines))
                self.seconds[stage, workers] = command.seconds
        return path

    def command(self, stage: str, output: Path | str, workers: int, *more: str, **variables: str) -> Command:
        sets = [f"output={output}", f"scaling.workers={workers}", f"partition.workers={workers}"]
        sets += [word for word in more if not word.startswith("-")]
        options = [word for word in more if word.startswith("-")]
        command = Command(folder=self.folder, stage=stage, sets=sets, variables=variables, more=options)
        self.commands.append(command)
        return command

    def run(self, case: Case) -> Result:
        """The case, with nothing left of it."""
        if case.kind == "worker" and case.what and self.sizes != LARGE:
            return self.large.run(case)
        result = Result(case=case)
        reference = self.reference(case.workers, case.stage)
        output = self.folder / f"case-{case.seed}"
        kinds: dict[str, Callable[..., None]] = {
            "worker": self._processes,
            "task": self._processes,
            "driver": self._processes,
            "raylet": self._processes,
            "machine": self._machine,
            "store, some requests": self._store,
            "store, outage": self._store,
            "full disk": self._full_disk,
            "damage": self._damage,
            "damaged checkpoint": self._damaged_checkpoint,
        }
        try:
            kinds[case.kind](case, result, reference, output)
        except Failed as error:
            result.error = str(error)
        shutil.rmtree(output, ignore_errors=True)
        return result

    def _before(self, case: Case, reference: Path, output: Path) -> None:
        """Copy what the stages before this one published."""
        output.mkdir(exist_ok=True)
        for stage in STAGES[: STAGES.index(case.stage)]:
            shutil.copytree(reference / ARTIFACTS[stage], output / ARTIFACTS[stage])

    def _moment(self, command: Command, case: Case, rng: random.Random) -> None:
        """Wait until the stage works, and a while that is left to chance."""
        if case.stage == "train":
            mark = f"epoch {rng.randint(1, EPOCHS - 2)}/"
        else:
            mark = case.what if case.kind == "worker" and case.what else "started"
        if not command.wait_for(f"{case.stage}: {mark}"):
            raise Failed(f"{case.stage} ended before the fault:\n" + "\n".join(command.lines))
        if case.stage == "train":
            time.sleep(rng.uniform(0.0, 0.5))
        elif mark != "started":
            time.sleep(rng.uniform(0.0, 0.2))
        else:  # after its line a stage takes some seconds to start its Ray
            time.sleep(rng.uniform(0.2, 0.7) * self.seconds[case.stage, case.workers])

    def _processes(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        rng = random.Random(case.seed)
        for _ in range(5):
            shutil.rmtree(output, ignore_errors=True)
            self._before(case, reference, output)
            command = self.command(case.stage, output, case.workers)
            self._moment(command, case, rng)
            injected = self._kill(case, command, rng)
            if injected is not None:
                break
            command.end()  # too early or too late for this fault
        else:
            raise Failed("no process to kill was found at any of five moments")
        result.injected = injected
        command.end()
        self._settle_local(case, result, command, output)

    def _kill(self, case: Case, command: Command, rng: random.Random) -> str | None:
        if command.process.poll() is not None:
            return None
        if case.kind == "driver":
            return faults.kill_driver(command)
        if case.kind == "raylet":
            return faults.kill_raylet(command, rng)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and command.process.poll() is None:
            if (injected := faults.kill_worker(command, rng)) is not None:
                return injected
            time.sleep(0.02)
        return None

    def _settle_local(
        self,
        case: Case,
        result: Result,
        command: Command,
        output: Path,
        remedy: str = "the same command again",
    ) -> None:
        """``_settle`` of a stage that publishes in the folder ``output``."""

        def again() -> Command:
            return self.command(case.stage, output, case.workers)

        self._settle(case, result, command, local(output), again=again, remedy=remedy)

    def _settle(
        self,
        case: Case,
        result: Result,
        command: Command,
        published: Published,
        again: Callable[[], Command],
        remedy: str = "the same command again",
    ) -> None:
        """After the fault and the command's end: what is there must be whole or nothing; then repeat until
        done, and compare."""
        status = command.process.returncode
        expected = local(self.reference(case.workers, case.stage)).essence(case.stage)
        published_files = published.essence(case.stage)
        if published_files not in (None, expected) or (status == 0 and published_files is None):
            raise Failed(f"status {status}, and what is published is wrong:\n" + "\n".join(command.lines))
        seconds = command.seconds
        if status != 0:
            messages = [line for line in command.lines if line.startswith("error: ")]
            if status > 0 and len(messages) != 1:
                raise Failed(f"status {status} without one message:\n" + "\n".join(command.lines))
            result.detected = (
                messages[0].removeprefix("error: ") if messages else f"status {status}, nothing published"
            )
            result.recovered = remedy
            second = again()
            if second.end() != 0:
                raise Failed("the remedy did not help:\n" + "\n".join(second.lines))
            seconds += second.seconds
        elif not result.detected:
            result.detected = "workers or tasks started again"
        result.lost = int(published.essence(case.stage) != expected)
        result.seconds = max(0.0, seconds - self.seconds[case.stage, case.workers])

    def _machine(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        """One of two machines of a cluster dies; another one joins."""
        self._before(case, reference, output)
        rng = random.Random(case.seed)
        with started_head(cpus=2) as head, ExitStack() as machines:
            first = machines.enter_context(ExitStack())
            first.enter_context(added_machine(head, cpus=1))
            variables = {name: value for name, value in head.environment.items() if name.startswith("RAY_")}
            command = self.command(case.stage, output, case.workers, f"--address={head.gcs}", **variables)
            self._moment(command, case, rng)
            first.close()
            result.injected = "SIGKILL of a machine's processes"
            machines.enter_context(added_machine(head, cpus=1))
            command.end()
            self._settle_local(case, result, command, output)

    def _store(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        rng = random.Random(case.seed)
        store = faults.FaultyStore(case.seed)
        with serving(store) as endpoint:
            client(endpoint).create_bucket(Bucket=BUCKET)
            for stage in STAGES[: STAGES.index(case.stage)]:
                upload(endpoint, BUCKET, reference / ARTIFACTS[stage], f"{output.name}/{ARTIFACTS[stage]}")
            sets = [f"storage.endpoint={endpoint}", f"storage.region={REGION}", "storage.path_style=true"]

            def command() -> Command:
                return self.command(case.stage, f"s3://{BUCKET}/{output.name}", case.workers, *sets, **KEYS)

            first = command()
            if not first.wait_for(f"{case.stage}: started"):
                raise Failed("no start:\n" + "\n".join(first.lines))
            if case.kind == "store, outage":
                time.sleep(rng.uniform(0.2, 0.7) * self.seconds[case.stage, case.workers])
                store.kinds, store.share = ("503", "reset"), 1.0
            else:
                store.share = 0.15
            first.end(_STORE_SECONDS)
            store.share = 0.0
            kinds = ", ".join(f"{count} {fault}" for fault, count in store.spoiled.items() if count)
            result.injected = f"requests spoiled: {kinds or 'none'}"
            result.detected = "requests sent again"
            if not kinds:
                raise Failed("no request was spoiled")
            filesystem = pafs.S3FileSystem(
                access_key="testing",
                secret_key="testing",
                endpoint_override=endpoint,
                region=REGION,
                force_virtual_addressing=False,
            )
            published = Published(filesystem, f"{BUCKET}/{output.name}")
            self._settle(case, result, first, published, again=command)

    def _full_disk(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        rng = random.Random(case.seed)
        with faults.small_disk(output):
            self._before(case, reference, output)
            command = self.command(case.stage, output, case.workers)
            command.wait_for(f"{case.stage}: started")
            if case.stage == "train":
                command.wait_for(f"epoch {rng.randint(1, EPOCHS - 3)}/")
            ballast = faults.fill_disk(output)
            result.injected = "no space left on the output's disk"
            status = command.end()
            ballast.unlink()
            if status == 0:
                raise Failed("a full disk was not noticed")
            self._settle_local(case, result, command, output, remedy="space, and again")

    def _damage(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        """A file of the stage before is damaged: this stage refuses it, and that stage makes it again."""
        self._before(case, reference, output)
        rng = random.Random(case.seed)
        before = {"partition": "prepare", "train": "partition", "evaluate": "train", "export": "train"}[
            case.stage
        ]
        manifest = local(output).manifest(before)
        assert manifest is not None
        name = rng.choice([f for f in sorted(manifest["files"]) if self._used(case.stage, f)])
        faults.damage(output / ARTIFACTS[before] / name, case.what, rng)
        result.injected = f"{ARTIFACTS[before]}/{name} {case.what}"
        command = self.command(case.stage, output, case.workers)
        status = command.end()
        if status == 0 or not any(name in line for line in command.lines):
            raise Failed(f"damage of {name} was not told:\n" + "\n".join(command.lines))
        mended = self.command(before, output, case.workers, "--force")
        if mended.end() != 0:
            raise Failed(f"{before} --force:\n" + "\n".join(mended.lines))
        self._settle_local(case, result, command, output, remedy=f"{before} --force")
        result.seconds += mended.seconds

    @staticmethod
    def _used(stage: str, name: str) -> bool:
        """Whether ``stage`` reads the file; evaluation needs no critic, say."""
        return (
            stage == "partition"
            or (stage == "train" and "ids" not in name)
            or (stage in ("evaluate", "export") and ("rows-" in name or "generator" in name))
        )

    def _damaged_checkpoint(self, case: Case, result: Result, reference: Path, output: Path) -> None:
        """The latest checkpoint of an interrupted training is damaged: the one before it is taken."""
        self._before(case, reference, output)
        rng = random.Random(case.seed)
        command = self.command(case.stage, output, case.workers)
        if not command.wait_for(f"epoch {EPOCHS // 2}/"):
            raise Failed("no second checkpoint:\n" + "\n".join(command.lines))
        # A checkpoint counts some time after its epoch's line, when it is uploaded.
        deadline = time.monotonic() + 20
        while len(_snapshot(output).get("checkpoint_results", ())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        faults.kill_driver(command)
        command.end()
        left_over([command], 10)  # until they know that it is gone, the workers go on and make checkpoints
        snapshot = _snapshot(output)
        assert len(snapshot["checkpoint_results"]) >= 2, "no second checkpoint"
        folder = snapshot["latest_checkpoint_result"]["checkpoint_dir_name"]
        latest = next(output.glob("training/run-*")) / folder
        name = rng.choice(sorted(p.name for p in latest.iterdir() if not p.name.startswith(".")))
        faults.damage(latest / name, case.what, rng)
        result.injected = f"SIGKILL of the driver; {name} of the latest checkpoint {case.what}"
        second = self.command(case.stage, output, case.workers)
        second.end()
        messages = [line for line in second.lines if "damaged" in line and name in line]
        if not messages:
            raise Failed(f"damage of {name} was not told:\n" + "\n".join(second.lines))
        result.detected = messages[0].split(": ", 2)[-1]
        result.recovered = "the checkpoint before it"
        second.seconds += command.seconds
        self._settle_local(case, result, second, output)


def _snapshot(output: Path) -> dict[str, Any]:
    """What Ray Train has written of a training's checkpoints; empty as long as there is nothing whole."""
    with suppress(StopIteration, json.JSONDecodeError):
        return dict(json.loads(next(output.glob("training/run-*/*_snapshot.json")).read_text()))
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="kinds of faults")
    parser.add_argument("--stage", nargs="*", help="stages")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--out", type=Path, help="a JSON file with every result")
    arguments = parser.parse_args()
    chosen = [
        case
        for case in cases(arguments.seed, arguments.few)
        if case.kind in (arguments.only or [case.kind]) and case.stage in (arguments.stage or [case.stage])
    ]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    results = _known(arguments.out, chosen)
    left = [case for case in chosen if case not in [result.case for result in results]]
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        campaign = Campaign(Path(name))
        for case in left:
            results.append(campaign.run(case))
            sys.stdout.write(f"{len(results)}/{len(chosen)} {results[-1]}\n")
            sys.stdout.flush()
            if arguments.out:
                arguments.out.write_text(json.dumps([asdict(result) for result in results], indent=1))
        processes = left_over(campaign.commands)
    sys.stdout.write("\n".join([*table(results), f"{len(processes)} processes left over", *processes]) + "\n")
    sys.exit(bool(processes) or any(result.lost for result in results))


def _known(file: Path | None, chosen: Sequence[Case]) -> list[Result]:
    if file is None or not file.exists():
        return []
    known = [Result(**{**record, "case": Case(**record["case"])}) for record in json.loads(file.read_text())]
    return [result for result in known if result.case in chosen]


if __name__ == "__main__":
    main()
