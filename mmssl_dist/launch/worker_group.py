"""W plain Ray actors with a process group, for stages that lose nothing when they are repeated.

A group serves one stage after the other, so only the first pays for starting processes and importing torch.
Its members import torch, and the driver does not wait for that: what needs torch is imported where it is
used.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mmssl_dist.cluster.capacity import await_room, room_now
from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.cluster.log_relay import follow, relayed_logs
from mmssl_dist.config import Job
from mmssl_dist.errors import WorkerError
from mmssl_dist.launch.failure_policy import FailurePolicy, root_failure, worker_error
from mmssl_dist.storage import downloads_folder

if TYPE_CHECKING:
    from mmssl_dist.exchange.worker import Worker

_logger = logging.getLogger(__name__)

_LAST_SECONDS = 1.0  # after a first failure, for those of the other workers
_START_SECONDS = 300.0
Result = TypeVar("Result")
GroupFunction = Callable[[Job, "Worker"], Result]
"""What runs in each worker. It is pickled by reference, so workers must be able to import its module."""


class WorkerGroup:
    """The workers of a job, started at the first call of ``start`` or ``run`` and kept until ``close``.

    A stage whose workers fail is repeated on new ones, ``training.max_failures`` times; what would fail again
    is raised at once, and the same error of storage at its second time.

    Args:
        strategy: of Ray's placement group, "PACK" or "SPREAD".
    """

    def __init__(self, cluster: Cluster, job: Job, strategy: str = "PACK") -> None:
        self.cluster, self.job, self.strategy = cluster, job, strategy
        self._members: list[Any] = []
        self._placement: PlacementGroup | None = None

    def start(self, stage: str) -> None:
        """Start the workers, if none are there. Returns when the cluster has room for them.

        Raises:
            InputError: there was no room within ``scaling.wait_seconds``.
        """
        if self._members:
            return
        scaling = self.job.scaling
        await_room([scaling.per_worker] * scaling.fewest, scaling.wait_seconds, stage)
        # As many as there is room for at this moment, so that an elastic job does not wait for machines that
        # may not come.
        size = min(scaling.most, max(scaling.fewest, room_now(scaling.per_worker)))
        _logger.info("%s: starting %d worker(s)", stage, size)
        self._placement = placement_group([dict(scaling.per_worker)] * size, strategy=self.strategy)
        variables = {"env_vars": dict(self.cluster.environment)} if self.cluster.environment else None
        member = ray.remote(
            num_cpus=scaling.cpus_per_worker, num_gpus=scaling.gpus_per_worker, runtime_env=variables
        )(StageWorker)
        bundles = (
            PlacementGroupSchedulingStrategy(self._placement, placement_group_bundle_index=rank)
            for rank in range(size)
        )
        self._members = [
            member.options(scheduling_strategy=bundle).remote(rank, size, self.cluster.relay)
            for rank, bundle in enumerate(bundles)
        ]

    def serves(self, job: Job) -> bool:
        """Whether these workers are what ``job`` asks for."""
        mine, other = self.job, job
        return (mine.scaling, mine.training.timeout_seconds) == (
            other.scaling,
            other.training.timeout_seconds,
        )

    def run(self, function: GroupFunction[Result], stage: str) -> tuple[Result, ...]:
        """What ``function`` returns on each worker, by rank.

        Raises:
            MmsslError: as a worker raised it; or there was no room for the workers.
            WorkerError: a worker raised something else, or workers died too often.
        """
        # Without a storage: these stages upload nothing through Ray, and know their own storage errors.
        policy = FailurePolicy(stage)
        left = self.job.training.max_failures
        while True:
            self.start(stage)
            results, failures = self._attempt(function)
            if not failures:
                return tuple(results)
            # All of them, also the healthy ones: a process group that lost a member cannot be used again.
            self.close()
            policy.judge(failures)
            # a machine that was taken away on notice is no failure of the job
            left -= not any(getattr(error, "preempted", False) for error in failures.values())
            if left < 0:
                raise worker_error(*root_failure(failures))

    def run_on_first(self, function: Callable[..., Any], *arguments: object) -> Any:
        """``function(*arguments)`` in the process of the first worker, or in a task if that worker is lost;
        raises as ``Cluster.run_task``."""
        try:
            return self.cluster.result_of(self._members[0].call.remote(function, arguments), function)
        except WorkerError as error:
            if not isinstance(error.__cause__, RayActorError):
                raise
            _logger.warning("%s; its work is repeated in a task", error)
        self.close()  # frees the CPU that a task needs
        return self.cluster.run_task(function, *arguments)

    def close(self) -> None:
        """End the workers and free their resources."""
        for member in self._members:
            # Killed, not asked: a member may be blocked in a collective that will never end.
            ray.kill(member)
        if self._placement is not None:
            remove_placement_group(self._placement)
        self._members, self._placement = [], None

    def _attempt(self, function: GroupFunction[Result]) -> tuple[list[Result], dict[int, Exception]]:
        """Results by rank, or the failures of those that failed first."""
        # Only what was set: defaults may depend on which fields are set, and are worked out again there.
        text, timeout = self.job.model_dump_json(exclude_unset=True), self.job.training.timeout_seconds
        # Passed on as a reference, so that no worker waits here for the first one to have started.
        address = self._members[0].address.remote()
        running = {
            member.work.remote(text, function, address, timeout): rank
            for rank, member in enumerate(self._members)
        }
        results: dict[int, Result] = {}
        failures: dict[int, Exception] = {}

        def collect(seconds: float) -> None:
            finished, _ = ray.wait(list(running), num_returns=len(running), timeout=seconds)
            for reference in finished:
                rank = running.pop(reference)
                try:
                    results[rank] = ray.get(reference)
                except (RayTaskError, RayActorError) as error:
                    failures[rank] = _cause(error)

        def done(seconds: float) -> bool:
            collect(seconds)
            return bool(failures) or not running

        follow(self.cluster.relay, done)
        # Others fail with it within moments, and one of them may name the real cause.
        if failures and running:
            collect(_LAST_SECONDS)
        return [results[rank] for rank in sorted(results)], failures


class StageWorker:
    """One worker, in a process of its own, which carries this name."""

    def __init__(self, rank: int, size: int, relay: Any) -> None:
        import torch.distributed  # noqa: F401  # while the driver prepares the first call

        self.rank, self.size, self.relay = rank, size, relay
        self._worker: Worker | None = None

    def address(self) -> str:
        """Of this process, with a port that was free just now."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            # Another process may take the port in between; the stage then fails and re-runs on new workers.
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def work(self, job_text: str, function: GroupFunction[Any], address: str, timeout: int) -> Any:
        """``function`` of the job and this worker, which joins the group at ``address`` at its first call."""
        import torch.distributed as dist

        from mmssl_dist.launch.heartbeat import heartbeat

        job = Job.model_validate_json(job_text)
        with relayed_logs(self.relay, self.rank):
            try:
                worker = self._worker = self._worker or self._join(job, address, timeout)
                with heartbeat(worker, dist.distributed_c10d._get_default_store()):
                    return function(job, worker)
            except Exception as error:
                error.add_note(f"In worker {self.rank}:\n{traceback.format_exc()}")  # tracebacks don't travel
                raise

    def call(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        """``function(*arguments)``."""
        with relayed_logs(self.relay):
            return function(*arguments)

    def _join(self, job: Job, address: str, timeout: int) -> Worker:
        import torch
        import torch.distributed as dist

        from mmssl_dist.exchange.worker import Worker

        on_gpu = bool(job.scaling.gpus_per_worker)
        device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
        if on_gpu:
            # Ray shows a worker its own GPUs only, so the first one is always its own.
            torch.cuda.set_device(device)
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            init_method=address,
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(seconds=timeout),
        )
        return Worker(
            rank=self.rank,
            world_size=self.size,
            device=device,
            cache=downloads_folder(),
            group=dist.group.WORLD,
        )


def _cause(error: RayTaskError | RayActorError) -> Exception:
    """What the worker raised, or its death."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(error, RayTaskError) and isinstance(cause, Exception) else error
