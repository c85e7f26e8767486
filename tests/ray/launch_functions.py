"""What the workers of test_launch.py run; a module of its own, since workers import it by name."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp

import pytest
import ray
import torch
import torch.distributed as dist

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError, StorageFault
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.part_files import PartFiles, Progress
from mmssl_dist.graph.partition import progress_of
from mmssl_dist.graph.partition_worker import write_partitions
from mmssl_dist.storage import Location, Manifest, open_location
from mmssl_dist.training.session import Session
from tests.jobs import make_job


def sum_of_ranks(job: Job, worker: Worker, session: Session, offset: int) -> dict[str, object]:
    total = torch.tensor([worker.rank + offset])
    dist.all_reduce(total, group=worker.group)
    logging.getLogger("mmssl_dist.training").info("the sum is %d", int(total))
    return {
        "rank": worker.rank,
        "sum": int(total),
        "seed": job.seed,
        "fanout": job.training.fanout,
        "cache": worker.cache.is_dir(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "device": str(worker.device),
    }


def second_worker_rejects_input(job: Job, worker: Worker, session: Session, folder: str) -> None:
    _count_start(folder, worker)
    if worker.rank == 1:
        raise InputError("data/a.parquet, row 17", "NaN", "features are finite", "Remove the row.")
    dist.barrier()


def second_worker_has_a_bug(job: Job, worker: Worker, session: Session, folder: str) -> None:
    _count_start(folder, worker)
    if worker.rank == 1:
        raise KeyError("no such modality")
    dist.barrier()


def reads_from_object_storage(job: Job, worker: Worker, session: Session, folder: str, url: str) -> str:
    _count_start(folder, worker)
    dist.barrier()  # both are counted before the server looks
    return open_location(url, job.storage).read_bytes().decode()


def dies_after_second_epoch(job: Job, worker: Worker, session: Session, folder: str) -> list[int]:
    """Four epochs, each reported with a checkpoint; at its first start worker 1 dies before the third."""
    _count_start(folder, worker)
    latest = next(iter(session.checkpoints()), None)
    first = (
        0 if latest is None else json.loads((latest / f"shard-{worker.rank}.json").read_bytes())["epoch"] + 1
    )
    for epoch in range(first, 4):
        if epoch == 2 and worker.rank == 1 and latest is None:
            _wait_for_second_checkpoint(Path(folder))
            (Path(folder) / "killed").touch()
            os.kill(os.getpid(), 9)
        dist.barrier()
        name = mkdtemp()
        (Path(name) / f"shard-{worker.rank}.json").write_text(json.dumps({"epoch": epoch}))
        session.report({"epoch": epoch, "recall@20": [0.1, 0.4, 0.3, 0.2][epoch]}, Path(name))
    return list(range(first, 4))


def second_worker_stops(job: Job, worker: Worker, session: Session) -> None:
    """Its process stays, and does nothing more; the other's collective gives up after five seconds."""
    # The time limit of the default group has to be long enough for workers that start slowly.
    # Making a group waits for all of its workers, by way of the store.
    impatient = dist.new_group(timeout=timedelta(seconds=5))
    if worker.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.barrier(group=impatient)


def counts_until_told_to_leave(job: Job, worker: Worker, session: Session, folder: str) -> list[int]:
    """Counts on from its last checkpoint, four times a second; a checkpoint is made when the session says it
    is due.

    Its second group of workers ends.
    """
    again = bool(session.checkpoints())
    first = json.loads((session.checkpoints()[0] / f"shard-{worker.rank}.json").read_bytes()) if again else 0
    for count in range(first, first + 480):
        dist.barrier()
        if again and count == first + 2:
            break
        if session.checkpoint_due(_largest):
            (Path(folder) / f"due-{count}").touch()
            name = mkdtemp()
            (Path(name) / f"shard-{worker.rank}.json").write_text(json.dumps(count))
            session.report({"epoch": 1, "step": count}, Path(name))
        time.sleep(0.25)
    return [first, count]


def _largest(value: int) -> int:
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def _count_start(folder: str, worker: Worker) -> None:
    (Path(folder) / f"start-{worker.rank}-{os.getpid()}").touch()


def _wait_for_second_checkpoint(folder: Path) -> None:
    """Until Ray Train has committed it; a death before that goes back to the first."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for snapshot in folder.glob("storage/*/checkpoint_manager_snapshot.json"):
            with suppress(json.JSONDecodeError):  # read while Ray Train writes it
                if json.loads(snapshot.read_text())["latest_checkpoint_result"]["metrics"]["epoch"] == 1:
                    return
        time.sleep(0.2)
    raise TimeoutError("the second checkpoint was not committed")


def machines_seen(job: Job, worker: Worker, session: Session, folder: str) -> dict[str, object]:
    """How many machines the workers are on."""

    nodes: list[object] = [None] * worker.world_size
    dist.all_gather_object(nodes, ray.get_runtime_context().get_node_id())
    return {"rank": worker.rank, "machines": len(set(nodes))}


def train_and_hold_alone(job: Job, worker: Worker, session: Session) -> dict[str, object]:
    """The training of ``launch.worker_entry``; a group of one holds after its second epoch until it is
    started anew."""
    from mmssl_dist.launch import worker_entry

    logging.getLogger("mmssl_dist.training").info("a group of %d", worker.world_size)
    return worker_entry.train_on_worker(job, worker, _Held(session) if worker.world_size == 1 else session)


class _Held:
    """A session whose second epoch is the last that it lets go on, within five minutes."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        self.session.report(metrics, checkpoint)
        if metrics["epoch"] == 2:
            time.sleep(300)

    def checkpoints(self) -> Sequence[Location]:
        return self.session.checkpoints()

    def checkpoint_due(self, agree: Callable[[int], int]) -> bool:
        return self.session.checkpoint_due(agree)


def process_and_sum(job: Job, worker: Worker) -> tuple[int, int]:
    """The worker's process, and the sum of all ranks."""
    total = torch.tensor([worker.rank])
    dist.all_reduce(total, group=worker.group)
    logging.getLogger("mmssl_dist.training").info("the sum is %d", int(total))
    return os.getpid(), int(total)


def group_rejects_input(job: Job, worker: Worker, folder: str) -> None:
    _count_start(folder, worker)
    if worker.rank == 1:
        raise InputError("data/a.parquet, row 17", "NaN", "features are finite", "Remove the row.")
    dist.barrier()


def group_has_a_bug(job: Job, worker: Worker, folder: str) -> None:
    _count_start(folder, worker)
    if worker.rank == 1:
        raise KeyError("no such modality")
    dist.barrier()


def group_loses_a_worker(job: Job, worker: Worker, folder: str, times: int) -> int:
    """The sum of all ranks; worker 1 dies in each of the first ``times`` groups."""
    _count_start(folder, worker)
    if worker.rank == 1 and len(list(Path(folder).glob("start-1-*"))) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return process_and_sum(job, worker)[1]


def group_without_storage(job: Job, worker: Worker, folder: str, times: int) -> int:
    """The sum of all ranks; storage does not answer worker 0 in each of the first ``times`` groups."""
    _count_start(folder, worker)
    if worker.rank == 0 and len(list(Path(folder).glob("start-0-*"))) <= times:
        raise StorageFault("s3://b/k", "HTTP status 503", "the storage must answer", "Check it.")
    return process_and_sum(job, worker)[1]


def dies_while_it_partitions(job: Job, worker: Worker, dataset: Manifest, folder: str) -> None:
    """Partitions; at its first start worker 1 dies when the first modality is published."""
    _count_start(folder, worker)
    mark, marked = Progress.mark, Path(folder) / "killed"

    def mark_and_die(self: Progress, name: str, files: PartFiles, facts: Mapping[str, object]) -> None:
        mark(self, name, files, facts)
        if worker.rank == 1 and name == "modality-image" and not marked.exists():
            marked.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "mark", mark_and_die)
        write_partitions(job, worker, dataset, progress_of(job, dataset))


def group_job(failures: int = 0) -> Job:
    return make_job(
        scaling={"workers": 2, "wait_seconds": 60},
        training={"timeout_seconds": 60, "max_failures": failures},
    )


def length_and_number(records: Mapping[str, object], number: int, name: str) -> tuple[int, int]:
    return len(records), number
