"""What every setting of a job changes, and where that is seen: the table that test_config_fields.py walks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One setting changed, and who looks.

    Attributes:
        path: the setting, as ``leaves`` names it.
        probe: key of ``PROBES``: what is done with the job before and after.
        sets: the override, as for --set.
        base: overrides of both jobs, where the setting shows only beside other settings.
    """

    path: str
    probe: str
    sets: tuple[str, ...]
    base: tuple[str, ...] = ()


def _one(probe: str, path: str, value: object, *base: str) -> Change:
    return Change(path, probe, (f"{path}={value}",), base)


_S3 = ("storage.region=eu-west-1", "storage.endpoint=http://127.0.0.1:9000")

# Content beside vectors: texts of a table, pictures of a folder.
_WORDS = (
    "data.modalities.words.table=words.csv",
    "data.modalities.words.columns=[text]",
    "data.modalities.words.encoder=owner/model",
)
_LOOKS = (
    "data.modalities.looks.files=other-pictures/{item}.png",
    "data.modalities.looks.encoder=owner/model",
)
# Columns of features, in place of the vectors.
_FACTS = (
    "data.modalities.facts.table=facts.csv",
    "data.modalities.facts.features={brand: category, marks: tags}",
)

# Seconds less than METIS, which has a process of its own.
_RANDOM = ("partition.method=random",)
# Lists of more neighbours would have too much of so small a catalogue.
_ONE_NEIGHBOUR = ("partition.item_neighbours=1", *_RANDOM)

CHANGES = (
    # What the readers make of the raw files.
    _one("read", "data.path", "raw-2"),
    _one("read", "data.layout", "inter"),
    _one("read", "data.interactions", "other.parquet"),
    _one("read", "data.columns.user", "user_2"),
    _one("read", "data.columns.item", "item_2"),
    _one("read", "data.columns.time", "time_2"),
    _one("read", "data.columns.split", "part_2"),
    _one("read", "data.columns.rating", "time", "data.columns.rating=time_2", "data.min_rating=1"),
    _one("read", "data.columns.title", "title_2", "data.titles=titles.csv"),
    _one("read", "data.columns.title_item", "item_2", "data.titles=titles.csv"),
    _one("read", "data.columns.types.user", "string"),
    _one("read", "data.columns.types.item", "string"),
    _one("read", "data.columns.null_values", ["", "3"], "data.layout=inter"),
    Change("data.modalities", "read", ("data.modalities.text.file=text.parquet",)),
    Change("data.modalities.*.file", "read", ("data.modalities.image.file=text.parquet",)),
    Change("data.modalities.*.vector", "read", ("data.modalities.image.vector=vector_2",)),
    Change("data.modalities.*.item", "read", ("data.modalities.image.item=item_2",)),
    Change("data.modalities.*.table", "read", ("data.modalities.words.table=words-2.csv",), _WORDS),
    Change("data.modalities.*.columns", "read", ("data.modalities.words.columns=[text_2]",), _WORDS),
    Change("data.modalities.*.files", "read", ("data.modalities.looks.files=pictures/{item}.png",), _LOOKS),
    Change("data.modalities.*.encoder", "embedding", ("data.modalities.words.encoder=owner/other",), _WORDS),
    Change("data.modalities.*.revision", "embedding", ("data.modalities.words.revision=v2",), _WORDS),
    Change("data.modalities.*.dimension", "embedding", ("data.modalities.words.dimension=3",), _WORDS),
    Change(
        "data.modalities.*.features", "embedding", ("data.modalities.facts.features.size=number",), _FACTS
    ),
    Change(
        "data.modalities.*.one_hot",
        "embedding",
        ("data.modalities.facts.one_hot=3",),
        (*_FACTS, "data.modalities.facts.hashed=6"),
    ),
    Change(
        "data.modalities.*.hashed",
        "embedding",
        ("data.modalities.facts.hashed=3",),
        (*_FACTS, "data.modalities.facts.one_hot=3"),
    ),
    Change("data.modalities.*.separator", "embedding", ("data.modalities.facts.separator=;",), _FACTS),
    Change(
        "data.modalities.*.decimal",
        "embedding",
        ("data.modalities.facts.decimal=','",),
        (*_FACTS, "data.modalities.facts.features.cost=number"),
    ),
    # What Ray and an encoder are asked for.
    _one("embedding", "embedding.batch_size", 3, *_WORDS),
    _one("embedding", "embedding.actors", 2, *_WORDS),
    _one("embedding", "embedding.cpus_per_actor", 2, *_WORDS),
    _one("embedding", "embedding.gpus_per_actor", 0.5, *_WORDS),
    _one("embedding", "embedding.max_pixels", 400, *_LOOKS),
    _one("read", "data.titles", "titles.csv"),
    _one("read", "data.images", "pictures/{item}.png"),
    # What the prepare stage publishes, and where.
    _one("prepare", "output", "run-2"),
    _one("prepare", "data.split.method", "temporal"),
    _one("prepare", "data.split.validation", 0.3),
    _one("prepare", "data.split.test", 0.4),
    _one("prepare", "data.split.seed", 4),
    _one(
        "prepare",
        "data.unknown_items",
        "keep",
        "data.unknown_items=drop",
        "data.modalities.image.file=few.parquet",
    ),
    _one("prepare", "data.min_interactions", 4),
    _one("prepare", "data.min_rating", 130, "data.columns.rating=time", "data.min_rating=110"),
    _one("prepare", "data.window.days", 0.0006, "data.columns.time=epoch", "data.window.days=0.0004"),
    _one(
        "prepare",
        "data.window.before",
        "2026-02-01T00:00:20",
        "data.columns.time=epoch",
        "data.window.days=0.0004",
    ),
    _one("prepare", "data.min_events", 2, "data.interactions=twice.parquet"),
    _one("prepare", "data.buckets", 3),
    # What the partition stage publishes.
    _one("partition", "seed", 4, *_RANDOM),
    _one("partition", "partition.parts", 2, *_RANDOM),
    _one("partition", "partition.method", "random", "partition.method=metis"),
    _one("partition", "partition.metis_gb", 1e-6, "partition.method=auto"),
    _one("partition", "partition.least_lift", 1000, "partition.least_lift=0", *_ONE_NEIGHBOUR),
    _one("partition", "partition.shuffle_features", "true", *_RANDOM),
    _one("partition", "partition.standardize", "false", *_RANDOM),
    _one("partition", "partition.item_neighbours", 5, *_RANDOM),
    _one("partition", "partition.feature_dimensions", 2, *_RANDOM),
    _one("partition", "partition.row_type", "bfloat16", *_RANDOM),
    _one("partition workers", "partition.workers", 2, "partition.workers=1"),
    # Losses, weights and rows of a few steps.
    _one("steps", "seed", 4),
    _one("table", "model.name", "mine"),
    _one("steps", "model.dimension", 8),
    Change("model.layers", "steps", ("model.layers=1", "training.fanout=[3]")),
    _one("steps", "model.heads", 2),
    _one("steps", "model.id_weight", 0.5),
    _one("steps", "model.modality_weight", 0.3),
    _one(
        "steps",
        "model.feature_columns",
        6,
        "losses.adversarial.weight=0",
        "model.modality_graph.size=0",
        "losses.contrastive.weight=0",
    ),
    _one("steps", "model.dropout", 0.4),
    _one("steps", "model.item_graph.weight", 0.3),
    _one("steps", "model.item_graph.fanout", 1),
    _one("steps", "model.item_graph.learned", "true"),
    _one("steps", "model.modality_graph.size", 2),
    _one("steps", "model.modality_graph.fanout", 1),
    _one("steps", "losses.l2", 0.01),
    _one("steps", "losses.tower_l2", 0.01),
    _one("steps", "losses.ranking.loss", "softmax"),
    _one("steps", "losses.ranking.temperature", 0.5, "losses.ranking.loss=softmax"),
    _one("steps", "losses.contrastive.rows", "item_graph"),
    _one("steps", "losses.contrastive.rows", "modalities"),
    _one("steps", "losses.contrastive.weight", 0.1),
    _one("steps", "losses.contrastive.temperature", 0.4),
    _one("steps", "losses.adversarial.weight", 0.2),
    _one("steps", "losses.adversarial.kind", "perturbation"),
    _one("steps", "losses.adversarial.eps", 0.4, "losses.adversarial.kind=perturbation"),
    _one("steps", "losses.adversarial.rows", "both", "losses.adversarial.kind=perturbation"),
    _one("steps", "losses.candidates", 12),
    _one("steps", "losses.adversarial.hidden", "[6, 4]"),
    _one("steps", "losses.adversarial.penalty", 1.0),
    _one("steps", "losses.adversarial.gumbel_scale", 1e-3),
    _one("steps", "losses.adversarial.gumbel_temperature", 1e-4),
    _one("steps", "losses.adversarial.signal_scale", 1.0),
    _one("steps", "training.user_exponent", 0.5),
    _one("steps", "training.batch_size", 48),
    _one("steps", "training.fanout", "[2, 2]"),
    _one("steps", "training.wire", "bf16"),
    _one("steps", "training.sampler", "device", "training.fanout=[2, 2]"),
    _one("steps", "training.rows.learning_rate", 0.01),
    _one("steps", "training.rows.second_moment", "row"),
    _one("steps", "training.dense.learning_rate", 0.01),
    _one("steps", "training.dense.critic_learning_rate", 0.01),
    _one("steps", "training.dense.zero_stage", 1),
    _one("steps", "training.dense.precision", "bf16"),
    _one("steps", "training.dense.clip", 0.01),
    # What the loop does when, with validations that follow a script.
    _one("loop", "training.epochs", 4),
    _one("loop", "training.steps_per_epoch", 1),
    _one("loop", "training.prefetch", 0),
    _one("loop", "model.modality_graph.refresh_epochs", 2),
    _one("loop", "evaluation.metric", "ndcg@20"),
    _one("loop", "evaluation.every_epochs", 2),
    _one("loop", "evaluation.patience", 2),
    # Metrics, lists, and the score matrices they are made from.
    _one("ranking", "evaluation.ks", "[20]"),
    _one("ranking", "evaluation.users", 3),
    _one("ranking", "evaluation.length_exponent", 0.5),
    _one("ranking", "evaluation.contributions", False),
    _one("ranking", "evaluation.user_block", 7),
    _one("ranking", "evaluation.item_block", 3),
    _one("ranking", "export.k", 3),
    _one("ranking", "export.recommendations", "none"),
    _one("ranking", "export.exclude", "training"),
    _one("ranking", "export.users", "few_users.csv"),
    # A day's lists in a table.
    _one("list table", "export.table.path", "elsewhere", "export.table.path=table"),
    _one("list table", "export.table.format", "delta", "export.table.path=table"),
    _one("list table", "export.table.date", "2026-12-01", "export.table.path=table"),
    # The index of the items.
    _one("index", "export.index.kind", "hnsw"),
    _one("index", "export.index.exact_up_to", 100),
    _one("index", "export.index.links", 8, "export.index.kind=hnsw"),
    _one("index", "export.index.build_width", 20, "export.index.kind=hnsw"),
    _one("index", "export.index.search_width", 20, "export.index.kind=hnsw"),
    _one("index", "export.index.cells", 5, "export.index.kind=ivf"),
    _one("index", "export.index.probes", 2, "export.index.kind=ivf"),
    _one("index", "export.index.recall", 0.5, "export.index.kind=ivf"),
    _one("index", "export.index.recall_users", 3),
    # What is asked of Ray.
    _one("launch", "scaling.workers", 2),
    _one("launch", "scaling.cpus_per_worker", 2),
    _one("launch", "scaling.gpus_per_worker", 1),
    _one("launch", "scaling.accelerator", "L4"),
    _one("launch", "scaling.wait_seconds", 60),
    _one("launch", "scaling.start_seconds", 60),
    Change("scaling.memory_gb", "room", ("scaling.memory_gb=0.2",), ("scaling.memory_gb=0.1",)),
    _one("start", "training.start_from", "elsewhere"),
    _one("launch", "training.keep_checkpoints", 3),
    _one("launch", "training.checkpoint_minutes", 2.5),
    _one("launch", "training.max_failures", 5),
    _one("launch", "training.timeout_seconds", 60),
    # What Ray Tune is asked for.
    Change("search.space", "search", ("search.space={model.dropout: {uniform: [0.1, 0.2]}}",)),
    *(
        Change(
            f"search.space.*.{distribution}",
            "search",
            (f"search.space={{model.heads: {{{distribution}: {values}}}}}",),
        )
        for distribution, values in (
            ("choice", [1, 4]),
            ("int", [1, 2]),
            ("uniform", [1, 2]),
            ("loguniform", [1, 2]),
        )
    ),
    _one("search", "search.trials", 3),
    _one("search", "search.concurrent", 2),
    _one("search", "search.grace_epochs", 2),
    _one("search", "search.reduction", 2.5),
    # What trackers receive, and where.
    _one("trackers", "tracking.mlflow", "sqlite:///runs.db"),
    _one("trackers", "tracking.experiment", "another", "tracking.mlflow=sqlite:///runs.db"),
    _one("registered", "tracking.registered_model", "shop", "tracking.mlflow=sqlite:///runs.db"),
    _one("wandb", "tracking.wandb", "shop"),
    _one("wandb", "tracking.wandb_mode", "offline", "tracking.wandb=shop"),
    # What is asked of S3.
    _one("storage", "storage.endpoint", "https://storage.example.com"),
    _one("storage", "storage.region", "us-west-2", *_S3),
    _one("storage", "storage.path_style", "true", *_S3),
    _one("storage", "storage.anonymous", "true", *_S3),
    _one("cache", "storage.cache_gb", 1.5e-7),
    _one("retries", "storage.retries", 1),
)
