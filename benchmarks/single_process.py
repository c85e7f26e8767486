"""Trains the experiments of a YAML file in this process alone: one worker, one thread, without Ray.

    python benchmarks/single_process.py EXPERIMENTS OUT --data NAME=RUN ... [--only NAME ...] [--table]
        [--seeds S ...] [--results FILE] [--paired FILE] [--lengths FILE] [--note TEXT]

EXPERIMENTS is like benchmarks/adversarial.yaml; RUN is the output of that data set's job after `prepare` and
`partition`. The losses, the draws and the early stop are those of the system with one worker, and the
checkpoint that validation chooses is evaluated once on test. A run is OUT/DATA SET/EXPERIMENT/seed-S.npz,
and is not made again. --results writes the table's figures and, for every data set, each experiment beside
"none", paired by user over the seeds that both have; --paired writes these differences as a table. --lengths
writes what the exponent of item lengths that validation chose is worth beside the dot product, of the same
checkpoints. --note is added to what made them; --table trains nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.distributed as dist
import yaml
from accuracy import Experiment, provenance, read
from tables import table

from mmssl_dist.config import Job, load_job
from mmssl_dist.evaluation.evaluate import held_out_metrics
from mmssl_dist.evaluation.item_lengths import fixed_exponent
from mmssl_dist.evaluation.metrics import metric_names
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.evaluation.user_columns import MODEL
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.launch.worker_entry import measure
from mmssl_dist.report.paired import interval, resampled_means, sign_flip_p
from mmssl_dist.report.runs import Summary
from mmssl_dist.training.improvement import improves
from mmssl_dist.training.loop import TrainingLoop
from mmssl_dist.training.state import TrainingState

SPLITS = ("validation", "test")
METRICS = ("recall@20", "ndcg@20")
ALONE = ("scaling.workers=1", "training.prefetch=0")
BASELINE = "none"
MEASURES = ("validation recall@20", "test recall@20", "test ndcg@20")
BY_DOT_PRODUCT = "by dot product"
LENGTH_COLUMNS = (
    "",
    "seeds",
    "exponents chosen",
    *(f"{which[0].upper()}{which[1:]}, dot product" for which in MEASURES),
    *(part for which in MEASURES for part in (f"{which[0].upper()}{which[1:]}, gain", "p")),
)
COLUMNS = (
    f"against {BASELINE}",
    "seeds of both",
    *(part for which in MEASURES for part in (f"{which[0].upper()}{which[1:]}", "p")),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", action="append", default=[], help="NAME=RUN, with its partitions")
    parser.add_argument("--only", nargs="*", help="names of the experiments to run")
    parser.add_argument("--seeds", nargs="*", type=int, help="seeds to run")
    parser.add_argument("--results", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--paired", type=Path, help="file to write the differences to, as a table")
    parser.add_argument("--lengths", type=Path, help="file to write the table of exponents of lengths to")
    parser.add_argument("--note", default="", help="what else is to be known of how the runs were made")
    parser.add_argument("--table", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    tree = yaml.safe_load(arguments.experiments.read_text())
    if not arguments.table:
        for name, run, form in wanted(tree, arguments.data, arguments.only):
            for seed in arguments.seeds or form.seeds:
                train_once(form, seed, run, arguments.out / name / form.name / f"seed-{seed}.npz")
    rows, differences = report(tree, arguments.out)
    head = {
        "provenance": provenance() + (f"; {arguments.note}" if arguments.note else ""),
        "command": shlex.join(["benchmarks/single_process.py", *sys.argv[1:]]),
    }
    if arguments.results:
        content = {**head, "experiments": rows, "paired": differences}
        arguments.results.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.paired:
        cells = [_cells(difference) for difference in differences]
        content = {**head, "columns": list(COLUMNS), "rows": cells}
        arguments.paired.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.lengths:
        content = {**head, "columns": list(LENGTH_COLUMNS), "rows": length_rows(tree, arguments.out)}
        arguments.lengths.write_text(json.dumps(content, indent=1) + "\n")


def wanted(
    tree: Mapping[str, Any], data: Sequence[str], only: Sequence[str] | None = None
) -> Iterator[tuple[str, str, Experiment]]:
    """Each data set of ``data`` (NAME=RUN), its run, and each of its forms, or those named in ``only``; this
    process is then a group of its own, with one thread."""
    runs = dict(text.split("=", 1) for text in data)
    if unknown := runs.keys() - tree["data"].keys():
        sys.exit(f"--data {', '.join(sorted(unknown))}: must be one of {', '.join(tree['data'])}")
    # once: DeepSpeed's own groups outlive a group that is ended
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.set_num_threads(1)
    for name, run in runs.items():
        for form in of_data_set(tree, name):
            if not only or form.name in only:
                yield name, run, form


def of_data_set(tree: Mapping[str, Any], name: str) -> list[Experiment]:
    """Every form as an experiment on one data set."""
    own = tree["data"][name]
    return read({**tree, "job": own["job"], "set": [*tree["set"], *own.get("set", ())]})


def train_once(experiment: Experiment, seed: int, run: str, file: Path) -> None:
    """Make one run, unless its file is there."""
    if file.exists():
        return
    others = [text for text in experiment.sets if text.startswith(("partition.", "data.split"))]
    if others:
        sys.exit(
            f"{experiment.name}: {', '.join(others)} changes partitions, and RUN's are taken as they are"
        )
    job = load_job(
        Path(experiment.job),
        ["data.path=unused", *experiment.sets, f"output={run}", f"seed={seed}", *ALONE],
    )
    with tempfile.TemporaryDirectory() as scratch:
        figures, arrays = train(job, Path(scratch))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as sink:
        np.savez(sink, figures=np.array(json.dumps(figures)), **arrays)
    part.rename(file)
    sys.stdout.write(f"{file}: {json.dumps(_short(figures))}\n")
    sys.stdout.flush()


def train(job: Job, scratch: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train to the early stop, and measure the best checkpoint.

    Returns:
        its metrics and what training took; each user's metrics, float64 [u, metrics], by split.
    """
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=scratch, group=dist.group.WORLD)
    graph = load_local_graph(job, worker, SPLITS)
    exchange, sampler = graph.exchange(worker), graph.exchange(worker)
    session = BestKept()

    def trained(state: TrainingState) -> Trained:
        views = {m: lists.graph(exchange) for m, lists in state.lists.items()}
        return Trained(
            graph=graph,
            exchange=exchange,
            model=state.model,
            views=views,
            id_rows=state.table.rows,
            length_exponent=fixed_exponent(job.evaluation),
        )

    def validate(state: TrainingState) -> dict[str, float]:
        now = trained(state)
        rows = exact_rows(now)
        metrics = held_out_metrics(job.evaluation, graph, rows=rows, exchange=exchange, splits=SPLITS[:1])[
            SPLITS[0]
        ]
        session.offer(metrics[job.evaluation.metric], now)
        return metrics

    before = time.process_time()
    position = TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=exchange,
        sampler_exchange=sampler,
        session=session,
        validate=validate,
    ).run()
    seconds = time.process_time() - before
    assert session.best is not None
    measured = measure(job.evaluation, session.best, SPLITS)
    dot_product = job.evaluation.model_copy(update={"length_exponent": 1.0, "contributions": False})
    by_dot_product = measure(dot_product, session.best, SPLITS)
    figures = {
        "metrics": measured.metrics,
        "length_exponent": measured.length_exponent,
        "best_epoch": position.best_epoch,
        "epochs": position.epochs,
        "processor seconds": round(seconds, 1),
        "names": list(metric_names(job.evaluation.ks)),
    }
    users = {split: measured.of_users[MODEL][split].values.numpy() for split in SPLITS}
    return figures, users | {
        f"{split} {BY_DOT_PRODUCT}": by_dot_product.of_users[MODEL][split].values.numpy() for split in SPLITS
    }


class BestKept:
    """A training session that keeps the best model in memory and writes no checkpoint."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.best: Trained | None = None

    def offer(self, value: float, trained: Trained) -> None:
        if improves(value, self.value):  # as the loop decides which epoch is the best
            model, rows = copy.deepcopy(trained.model), trained.id_rows.clone()
            self.value, self.best = (
                value,
                Trained(
                    graph=trained.graph,
                    exchange=trained.exchange,
                    model=model,
                    views=trained.views,
                    id_rows=rows,
                ),
            )

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        if checkpoint:
            shutil.rmtree(checkpoint)

    def checkpoints(self) -> list[Any]:
        return []

    def checkpoint_due(self, agree: Any) -> bool:
        return False


def report(tree: Mapping[str, Any], out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Print the table of the runs that are there. Returns its rows, and the paired differences."""
    rows, differences = [], []
    for name in tree["data"]:
        done = {form.name: finished(out / name / form.name) for form in of_data_set(tree, name)}
        rows += [row(f"{name}: {form}", runs) for form, runs in done.items() if runs]
        differences += [
            {"data": name, "experiment": form, **paired(runs, done[BASELINE])}
            for form, runs in done.items()
            if form != BASELINE and runs.keys() & done[BASELINE].keys()
        ]
    if not rows:
        sys.exit(f"{out}: no run")
    sys.stdout.write("\n".join(table({"experiments": rows})) + "\n\n")
    cells = {"columns": COLUMNS, "rows": [_cells(difference) for difference in differences]}
    sys.stdout.write("\n".join(table(cells)) + "\n")
    return rows, differences


def finished(folder: Path) -> dict[int, Any]:
    """The runs that are in a folder, by seed."""
    files = {int(file.stem.removeprefix("seed-")): file for file in folder.glob("seed-*.npz")}
    return {seed: np.load(files[seed]) for seed in sorted(files)}


def row(name: str, runs: Mapping[int, Any]) -> dict[str, Any]:
    """A row as benchmarks/tables.py reads it."""
    figures = [json.loads(str(run["figures"])) for run in runs.values()]
    metrics = [run["metrics"] for run in figures]
    cold = [run["cold"]["test"]["recall@20"] for run in metrics if "test" in run.get("cold", {})]
    return {
        "name": name,
        "runs": len(runs),
        "seeds": list(runs),
        **{f"{split} recall@20": _summary([run[split]["recall@20"] for run in metrics]) for split in SPLITS},
        "test ndcg@20": sum(run["test"]["ndcg@20"] for run in metrics) / len(metrics),
        "cold test recall@20": sum(cold) / len(cold) if len(cold) == len(metrics) else None,
        "best epochs": [run["best_epoch"] for run in figures],
        "processor seconds": [run["processor seconds"] for run in figures],
        "epochs": [run["epochs"] for run in figures],
    }


def paired(runs: Mapping[int, Any], others: Mapping[int, Any]) -> dict[str, Any]:
    """The differences of the seeds that both have, averaged user by user: mean, interval over users, p."""
    seeds = sorted(runs.keys() & others.keys())
    result: dict[str, Any] = {"seeds": seeds}
    for split in SPLITS:
        for metric in METRICS:
            differences = [
                _by_user(runs[s], split, metric) - _by_user(others[s], split, metric) for s in seeds
            ]
            result[f"{split} {metric}"] = _difference(np.mean(differences, 0))
    return result


def length_rows(tree: Mapping[str, Any], out: Path) -> list[list[str]]:
    """The rows under LENGTH_COLUMNS: every experiment that has been run, its rankings by the dot product and
    with the exponent that validation chose, paired user by user over all its seeds."""
    rows = []
    for name in tree["data"]:
        for form in of_data_set(tree, name):
            runs = finished(out / name / form.name)
            if not runs:
                continue
            exponents = [json.loads(str(run["figures"]))["length_exponent"] for run in runs.values()]
            cells = [f"{name}: {form.name}", " ".join(map(str, runs)), " ".join(f"{a:g}" for a in exponents)]
            gains = []
            for which in MEASURES:
                split, metric = which.split()
                before = [_by_user(run, split, metric, f" {BY_DOT_PRODUCT}") for run in runs.values()]
                after = [_by_user(run, split, metric) for run in runs.values()]
                cells.append(f"{np.mean(before):.4f}")
                gains += _gain(_difference(np.mean(after, 0) - np.mean(before, 0)))
            rows.append(cells + gains)
    return rows


def _by_user(run: Any, split: str, metric: str, ranked: str = "") -> np.ndarray:
    """[u] a metric of each user in a run's rankings."""
    column = json.loads(str(run["figures"]))["names"].index(metric)
    values: np.ndarray = run[f"{split}{ranked}"][:, column]
    return values


def _difference(by_user: np.ndarray) -> dict[str, Any]:
    """Mean of differences by user, its interval over users and the p of sign flips."""
    low, high = interval(resampled_means(by_user[None])[:, 0])
    return {
        "difference": round(float(by_user.mean()), 5),
        "95 % interval": [round(low, 5), round(high, 5)],
        "p": round(sign_flip_p(by_user), 4),
    }


def _cells(difference: Mapping[str, Any]) -> list[str]:
    """A row of the table of differences, under COLUMNS."""
    cells = [
        f"{difference['data']}: {difference['experiment']}",
        " ".join(map(str, difference["seeds"])),
    ]
    return cells + [cell for which in MEASURES for cell in _gain(difference[which])]


def _gain(value: Mapping[str, Any]) -> list[str]:
    """A difference with its interval, and its p."""
    low, high = value["95 % interval"]
    p = "< 0.0002" if value["p"] < 0.0002 else f"{value['p']:.4f}"
    return [f"{value['difference']:+.4f} ({low:+.4f} to {high:+.4f})", p]


def _summary(values: Sequence[float]) -> dict[str, Any]:
    summary = Summary(tuple(values))
    return {"mean": summary.mean, "runs": list(values), "standard error": summary.error}


def _short(figures: Mapping[str, Any]) -> dict[str, Any]:
    metrics = figures["metrics"]
    return {
        **{f"{split} {name}": round(metrics[split][name], 5) for split in SPLITS for name in METRICS},
        **{name: figures[name] for name in ("best_epoch", "epochs", "processor seconds")},
    }


if __name__ == "__main__":
    main()
