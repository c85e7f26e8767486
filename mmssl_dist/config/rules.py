"""Rules that hold between settings of different sections; each names the settings it compares."""

from __future__ import annotations

from collections.abc import Iterator

from mmssl_dist.config.content_rules import content_disagreements
from mmssl_dist.config.disagreement import Disagreement
from mmssl_dist.config.tree import JobSections

# In the order of the pipeline; here, and not in ``storage``, since a rule below compares with them.
STAGE_FOLDERS = ("embeddings", "dataset", "partitions", "training", "evaluation", "export")


def disagreements(job: JobSections) -> Iterator[Disagreement]:
    """Every rule that ``job`` breaks."""
    yield from _split(job)
    yield from (*_folders(job), *_export(job))
    yield from content_disagreements(job.data)
    # The most that an elastic job may grow to: it must not fail in the middle, when machines appear.
    workers, parts = job.scaling.most, job.partition.parts
    if workers > parts:
        yield Disagreement(
            ("scaling.workers", "partition.parts"),
            f"found {workers}; must be at most partition.parts ({parts}), since a partition has one owner. "
            "Raise partition.parts or lower scaling.workers",
        )
    partitioning = job.partition.workers
    if partitioning != "auto" and partitioning > parts:
        yield Disagreement(
            ("partition.workers", "partition.parts"),
            f"found {partitioning}; must be at most partition.parts ({parts}), since a partition has one "
            "owner. Raise partition.parts or lower partition.workers",
        )
    if job.training.batch_size < parts:
        yield Disagreement(
            ("training.batch_size", "partition.parts"),
            f"found {job.training.batch_size}; must be at least partition.parts ({parts}), since a "
            "step takes pairs "
            "from every partition and would find none. Raise training.batch_size",
        )
    if job.model.dimension % job.model.heads:
        yield Disagreement(
            ("model.heads", "model.dimension"),
            f"found {job.model.heads}; must divide model.dimension ({job.model.dimension})",
        )
    yield from _feature_columns(job)
    if job.training.fanout != "all" and len(job.training.fanout) != job.model.layers:
        yield Disagreement(
            ("training.fanout", "model.layers"),
            f"found {len(job.training.fanout)} number(s); model.layers is {job.model.layers}. "
            "Give one fanout per layer, or all",
        )
    yield from _contrastive(job)
    yield from _adversarial(job)
    if job.model.item_graph.weight > 0 and not job.partition.item_neighbours:
        yield Disagreement(
            ("model.item_graph.weight", "partition.item_neighbours"),
            f"found {job.model.item_graph.weight:g}; partition.item_neighbours is 0, so there is "
            "no item-item graph. Raise partition.item_neighbours, or set the weight to 0",
        )
    if job.model.item_graph.weight > 0 and not job.model.layers:
        yield Disagreement(
            ("model.item_graph.weight", "model.layers"),
            f"found {job.model.item_graph.weight:g}; a user's items are those of its first hop, "
            "and model.layers is 0. Raise model.layers, or set the weight to 0",
        )
    yield from _tracking(job)
    if int(job.evaluation.metric.split("@")[1]) not in job.evaluation.ks:
        yield Disagreement(
            ("evaluation.metric", "evaluation.ks"),
            f"found {job.evaluation.metric}; its K must be among evaluation.ks {list(job.evaluation.ks)}",
        )


def _export(job: JobSections) -> Iterator[Disagreement]:
    if job.export.users is not None and job.export.recommendations == "none":
        yield Disagreement(
            ("export.users", "export.recommendations"),
            f"found {job.export.users}; export.recommendations is none, so nobody gets a list. "
            "Set it to exact or index, or remove export.users",
        )
    table = job.export.table
    if table is not None and job.export.recommendations == "none":
        yield Disagreement(
            ("export.table.path", "export.recommendations"),
            f"found {table.path}; export.recommendations is none, so there are no lists to write. "
            "Set it to exact or index, or remove export.table",
        )
    if table is not None and f"{table.path.rstrip('/')}/".startswith(f"{job.output.rstrip('/')}/"):
        yield Disagreement(
            ("export.table.path", "output"),
            f"found {table.path}; the table outlives the run, whose stages empty folders of the output. "
            "Keep it elsewhere",
        )


def _tracking(job: JobSections) -> Iterator[Disagreement]:
    if job.tracking.registered_model is not None and job.tracking.mlflow is None:
        yield Disagreement(
            ("tracking.registered_model", "tracking.mlflow"),
            f"found {job.tracking.registered_model}; the registry is MLflow's, and tracking.mlflow is "
            "not set. Set it, or remove the model",
        )
    if job.tracking.wandb_mode == "offline":
        if job.tracking.wandb is None:
            yield Disagreement(
                ("tracking.wandb_mode", "tracking.wandb"),
                "found offline; tracking.wandb names no project. Set it, or remove the mode",
            )
        # They would stay in a folder of the machine that runs the command.
        elif "://" in job.output and not job.output.startswith("file://"):
            yield Disagreement(
                ("tracking.wandb_mode", "output"),
                f"found offline; its files are written to a folder below the output, and {job.output} is no "
                "local folder. Choose a local output, or online",
            )


def _split(job: JobSections) -> Iterator[Disagreement]:
    split, columns, layout = job.data.split, job.data.columns, job.data.layout
    # Almost always a slip; the graph would connect every node with itself alone, and train on nothing.
    if columns.user == columns.item and layout != "mmssl":
        yield Disagreement(
            ("data.columns.item", "data.columns.user"),
            f"found {columns.item!r}; data.columns.user is the same column. Name the column with "
            "the item's id",
        )
    # Only these two read the shares; with the others a job may leave any numbers there.
    if split.method in ("ratio", "temporal") and split.validation + split.test >= 1.0:
        yield Disagreement(
            ("data.split.test", "data.split.validation", "data.split.method"),
            f"found {split.test}; with data.split.validation ({split.validation}) it must stay below 1, "
            "so that something is left to train on",
        )
    if split.method in ("leave_last_out", "temporal") and layout == "mmssl":
        yield Disagreement(
            ("data.split.method", "data.layout"),
            f"found {split.method}; the layout mmssl has no times. Use given or ratio",
        )
    if split.method in ("leave_last_out", "temporal") and layout == "table" and columns.time is None:
        yield Disagreement(
            ("data.columns.time", "data.split.method", "data.layout"),
            f"missing; the split {split.method} needs it. Name the column with the time",
        )
    yield from _rating(job)
    yield from _window(job)
    if split.method == "given" and layout == "table" and columns.split is None:
        yield Disagreement(
            ("data.columns.split", "data.split.method", "data.layout"),
            "missing; the split given needs it. Name the column with the split",
        )


def _rating(job: JobSections) -> Iterator[Disagreement]:
    """A bound and the column it is for; either alone would change nothing."""
    columns, least = job.data.columns, job.data.min_rating
    if least is not None and job.data.layout == "mmssl":
        yield Disagreement(
            ("data.min_rating", "data.layout"),
            f"found {least:g}; the layout mmssl has no ratings. Remove it, or use the layout table",
        )
    elif least is not None and columns.rating is None:
        yield Disagreement(
            ("data.columns.rating", "data.min_rating"),
            "missing; data.min_rating needs it. Name the column with the rating",
        )
    elif least is None and columns.rating is not None:
        yield Disagreement(
            ("data.min_rating", "data.columns.rating"),
            f"missing; data.columns.rating ({columns.rating}) is read for it alone, as training knows no "
            "weights. Set the lowest rating to keep, or remove the column",
        )


def _window(job: JobSections) -> Iterator[Disagreement]:
    """Days are counted by the column of times."""
    if job.data.window is None:
        return
    if job.data.layout == "mmssl":
        yield Disagreement(
            ("data.window", "data.layout"),
            "found; the layout mmssl has no times. Remove it, or use the layout table",
        )
    elif job.data.layout == "table" and job.data.columns.time is None:
        yield Disagreement(
            ("data.columns.time", "data.window", "data.layout"),
            "missing; data.window needs it. Name the column with the time",
        )


def _feature_columns(job: JobSections) -> Iterator[Disagreement]:
    """Users have no tower rows beside them, which two other parts of the model are made of."""
    columns, dimension = job.model.feature_columns, job.model.dimension
    if columns > dimension:
        yield Disagreement(
            ("model.feature_columns", "model.dimension"),
            f"found {columns}; must be at most model.dimension ({dimension}), of which they are a part",
        )
    if columns and job.losses.adversarial.has_critic:
        yield Disagreement(
            ("losses.adversarial.weight", "model.feature_columns"),
            f"found {job.losses.adversarial.weight:g}; model.feature_columns is {columns}, so "
            "users have no tower rows "
            "for the critic. Set one of them to 0",
        )
    if columns and job.model.modality_graph.size:
        yield Disagreement(
            ("model.modality_graph.size", "model.feature_columns"),
            f"found {job.model.modality_graph.size}; model.feature_columns is {columns}, so users "
            "have no tower rows "
            "to choose items by. Set one of them to 0",
        )


def _adversarial(job: JobSections) -> Iterator[Disagreement]:
    """The perturbation needs the rows whose length it goes by."""
    term = job.losses.adversarial
    if term.perturbs and term.rows != "final" and not job.model.item_graph.weight:
        yield Disagreement(
            ("losses.adversarial.rows", "losses.adversarial.kind", "model.item_graph.weight"),
            f"found {term.rows}; model.item_graph.weight is 0, so there are no such rows. "
            "Take final, or raise that weight",
        )


def _contrastive(job: JobSections) -> Iterator[Disagreement]:
    """The term needs the rows it pulls together."""
    term = job.losses.contrastive
    if term.weight > 0 and term.rows == "lists" and not job.model.modality_graph.size:
        yield Disagreement(
            ("losses.contrastive.rows", "losses.contrastive.weight", "model.modality_graph.size"),
            "found lists; model.modality_graph.size is 0, so there are none. "
            "Take item_graph, raise the size, or set losses.contrastive.weight to 0",
        )
    if term.weight > 0 and term.rows != "lists" and not job.model.item_graph.weight:
        yield Disagreement(
            ("losses.contrastive.rows", "losses.contrastive.weight", "model.item_graph.weight"),
            f"found {term.rows}; model.item_graph.weight is 0, so there are no such rows. "
            "Take lists, raise that weight, or set losses.contrastive.weight to 0",
        )
    if term.weight > 0 and term.rows == "modalities" and len(job.data.modalities) < 2:
        yield Disagreement(
            ("losses.contrastive.rows", "losses.contrastive.weight", "data.modalities"),
            "found modalities; data.modalities has one, so there are no two to compare. "
            "Take item_graph, or set losses.contrastive.weight to 0",
        )


def _folders(job: JobSections) -> Iterator[Disagreement]:
    """A stage empties its folder before it writes, so raw files must not live there."""
    start = job.training.start_from
    if start is not None and start.rstrip("/") == job.output.rstrip("/"):
        yield Disagreement(
            ("training.start_from", "output"),
            f"found {start}; this is the output, where a training replaces the one before. "
            "Give each run an output of its own",
        )
    # By name only, as nothing may exist yet; ``launch.preflight`` looks at the files and links themselves.
    raw = job.data.path.rstrip("/") + "/"
    for name in STAGE_FOLDERS:
        if raw.startswith(f"{job.output.rstrip('/')}/{name}/"):
            yield Disagreement(
                ("data.path", "output"),
                f"found {job.data.path}; output/{name} is emptied by its stage. Keep raw files elsewhere",
            )
