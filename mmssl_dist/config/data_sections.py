"""The ``data`` and ``partition`` sections: the raw files, how they are split, and how the graph is cut."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mmssl_dist.config.section import (
    Count,
    Files,
    Fraction,
    Moment,
    Name,
    Natural,
    Rate,
    Section,
    Text,
    Weight,
    as_tuple,
)

# What pandas reads as missing, and what it and Python write for it
_NULL_VALUES = (
    *("", "None", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "NA", "N/A", "n/a"),
    *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)


class IdTypes(Section):
    """The types of ids, where the files leave a choice."""

    user: Literal["int", "string"] | None = None
    """Users' ids are integers, or texts; by default what all files show."""
    item: Literal["int", "string"] | None = None
    """Items' ids, also those of the features; by default the features' type."""


class Columns(Section):
    """Names of the columns in the interaction files, and of titles; the defaults are those ``synthesize``
    writes."""

    user: Text = "user_id"
    """Column with the user's id, of any type."""
    item: Text = "item_id"
    """Column with the item's id, of any type."""
    time: Text | None = None
    """Column with a sortable time; needed by the leave-last-out and temporal splits."""
    rating: Text | None = None
    """Column with a number that data.min_rating is compared with; read only where that is set."""
    split: Text | None = None
    """Column with the split: 0/train, 1/validation, 2/test; needed by the given split of tables."""
    title: Text = "title"
    """Column with an item's title, a text: in the files of data.titles, and in one that ``--items`` names."""
    title_item: Text | None = None
    """Column with the item's id in these files; by default it is called as in the interactions."""
    types: IdTypes = IdTypes()
    """Types of the ids, to decide them explicitly; see docs/input-rules.md."""
    null_values: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _NULL_VALUES
    """CSV, TSV, JSON lines and ``.inter``: what stands for a missing value in the columns above, spaces
    around it aside; rows with a missing id are dropped and counted."""

    @property
    def item_of_titles(self) -> str:
        """The column with the item's id in files of titles."""
        return self.title_item or self.item


FeatureType = Literal["category", "tags", "number", "boolean"]
# Vectors are not sparse: a column of more would fill memory with zeros.
Dimensions = Annotated[int, Field(ge=1, le=1 << 16)]


class Modality(Section):
    """Where one modality's item features are: vectors in ``file``, raw content that ``encoder`` embeds, or
    columns of ``table`` as ``features``."""

    file: Files | None = None
    """Path under data.path: ``.npy`` (one row per item), or a file, folder or glob of Parquet, CSV, TSV or
    JSON lines."""
    vector: Text = "vector"
    """Of a table in file: the column with the vectors, lists of numbers or, outside of Parquet, texts such as
    [0.1, 0.2]. A ``*`` stands for a number: ``v*`` means the columns v0, v1 and so on, of one value each."""
    item: Text = "item_id"
    """Of a table: the column with the item's id."""
    table: Files | None = None
    """With an encoder: Parquet, CSV, TSV or JSON lines under data.path with texts, or with names of
    pictures; with features: with their columns."""
    columns: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()
    """Of table: columns whose values, one to a line, are an item's text."""
    files: Text | None = None
    """With an encoder: pictures under data.path (JPEG, PNG, GIF, WebP), as a path with {item} where the id
    stands, or with the name of a column of table, such as images/{picture}."""
    encoder: Text | None = None
    """What embeds the content: a model of the Hugging Face hub, or a folder of one, local or in object
    storage (s3://, gs://, abfs://). Weights are safetensors; pickles are refused."""
    revision: Text | None = None
    """Of an encoder of the hub: branch, tag or commit; by default the hub's main branch."""
    dimension: Count | None = None
    """Values of the encoder's vectors; by default any number, else another one is refused."""
    features: dict[Text, FeatureType] = Field({})
    """Of table: columns that are features themselves, such as {brand: category, price: number}. category: one
    value; tags: a list, or a text with separators; number: standardized; boolean: true or false."""
    one_hot: Dimensions = 64
    """Of features: a category or tags column of at most so many distinct values has a dimension for each."""
    hashed: Dimensions = 64
    """Of features: dimensions that the values of a column with more distinct ones are hashed into."""
    separator: Text = ","
    """Of features: what stands between the tags of a text."""
    decimal: Literal[".", ","] = "."
    """The mark before a fraction in features and vectors that are texts, as all numbers are outside of
    Parquet. With a comma, features may have points between thousands, as in 1.299,00."""

    @property
    def has_content(self) -> bool:
        """Whether the stage embed makes its vectors."""
        return self.encoder is not None or bool(self.features)


class Window(Section):
    """The days of interactions that count; needs columns.time."""

    days: Rate
    """Length in days of 24 hours."""
    before: Moment | None = None
    """Where it ends, such as 2026-02-01 (UTC where it names no zone): interactions from then on do not count.
    By default it ends with the newest interaction, which counts."""


class Split(Section):
    """How interactions become training, validation and test sets."""

    method: Literal["given", "ratio", "leave_last_out", "temporal"] = "ratio"
    """given: by files or by columns.split; ratio: per user, at random; leave_last_out: each user's last two;
    temporal: by quantiles of time over all interactions."""
    validation: Fraction = 0.1
    """Share of the interactions for validation (ratio, temporal)."""
    test: Fraction = 0.2
    """Share of the interactions for the test (ratio, temporal)."""
    # Below 2^31 like the job's seed, which DGL's generator takes as a signed 32-bit number.
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the split (ratio; ties of leave_last_out). Apart from the job's seed, so that several seeds of
    one experiment hold out the same interactions."""


def _usual_split(layout: str) -> Split:
    return Split(method="given" if layout == "mmssl" else "ratio")


class Data(Section):
    """This section names the raw files."""

    path: Text
    """Folder or URL of the raw files."""
    layout: Literal["table", "inter", "mmssl"] = "table"
    """table: Parquet, CSV, TSV or JSON lines; inter: RecBole/MMRec ``.inter``; mmssl: train.json, val.json,
    test.json."""
    interactions: Files | None = None
    """table, inter: file, folder or glob under data.path; default interactions.parquet, or the only
    *.inter."""
    columns: Columns = Columns()
    """Names of the columns in interactions and titles; ``inter`` files name their own, unless set here."""
    modalities: Annotated[dict[Name, Modality], Field(min_length=1)]
    """One entry per modality; its key names the modality everywhere else."""
    titles: Files | None = None
    """Parquet, CSV, TSV or JSON lines under data.path with the columns columns.title and columns.title_item:
    what the report, lists and the service call items."""
    images: Files | None = None
    """What the report shows of items: a path under data.path with ``{item}`` where the id stands, such as
    pictures/{item}.jpg (JPEG, PNG, GIF, WebP), or Parquet with a binary column ``image`` beside
    columns.item."""
    # A factory, and not a validator: the field then stays unset, which ``data.split_labels`` asks for.
    split: Split = Field(default_factory=lambda data: _usual_split(data["layout"]))
    """How interactions are split; by default given in the layout mmssl, whose files are splits, and where
    ``.inter`` files have the column x_label, else ratio."""
    min_rating: float | None = None
    """Interactions rated lower, by columns.rating, are dropped and counted, before anything else is done with
    them; none by default."""
    window: Window | None = None
    """Interactions outside of it are dropped and counted; by default all count."""
    min_events: Count = 1
    """Pairs of a user and an item in fewer rows are dropped and counted. Beyond that, repeated rows count as
    one: edges of the graph have no weights."""
    unknown_items: Literal["error", "drop", "keep"] = "error"
    """What becomes of interactions whose item has features in no modality. error: refused, with their number;
    drop: left out and counted; keep: the item takes part, known by its ID row alone."""
    min_interactions: Natural = 0
    """k-core: users and items with fewer interactions are dropped, repeatedly; 0 keeps all."""
    buckets: Count | Literal["auto"] = "auto"
    """Hash buckets, so tasks and files per table, in which ids are mapped and interactions split. auto: 4,
    and more for large files, so that a task can hold a bucket."""


class Embedding(Section):
    """How the stage embed makes vectors of raw content; the result does not depend on most of it."""

    batch_size: Count = 32
    """Texts or pictures that an encoder takes at once; halved where a GPU's memory does not suffice."""
    actors: Count = 1
    """Processes that embed side by side, each with the encoder in memory."""
    cpus_per_actor: Count = 1
    """Cores reserved in Ray per actor; also its number of compute threads."""
    gpus_per_actor: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """GPUs per actor, as a share of one: 0.5 puts two on a GPU. auto: 1 where the cluster has a GPU, else
    0."""
    max_pixels: Count = 50_000_000
    """Pixels of the largest picture that is decoded; larger ones are left out and counted."""


RowType = Literal["float32", "bfloat16"]


class Partition(Section):
    """How the graph is cut."""

    parts: Count = 4
    """Number of partitions P; fixed from then on, while the number of workers may change."""
    method: Literal["auto", "metis", "streaming", "random"] = "auto"
    """metis: smallest edge cut; streaming: passes over the edges with little memory beyond the graph; random:
    no graph algorithm; auto: metis where DGL is installed and its estimated memory is at most metis_gb, else
    streaming."""
    metis_gb: Rate = 16.0
    """auto only: memory METIS may take, in GB."""
    item_neighbours: Natural = 10
    """Nearest items kept per item and modality, by the cosine of their features; 0 builds no item-item
    graph."""
    least_lift: Weight = 1.25
    """Leave a modality out where similar items are in one user's training items about as often as by chance:
    less than this many times as often and not as much rarer, or within four standard errors; 0 leaves none
    out."""
    shuffle_features: bool = False
    """Give each item another item's features, at random: a control, which must lose what features are
    worth."""
    workers: Count | Literal["auto"] = "auto"
    """Workers that cut and propagate, each with scaling.cpus_per_worker and no GPU; at most parts. The result
    does not depend on it. auto: 1 on one machine; on several as many as scaling.workers starts with."""
    feature_dimensions: Natural = 0
    """Most dimensions that features of a modality keep, by PCA after they are standardized; the item-item
    graph, training and storage then see these alone. 0 keeps all."""
    row_type: RowType = "float32"
    """Type of a node's propagated features, most of what partitions keep and a worker holds: bfloat16 takes
    half of float32's space."""
    standardize: bool = True
    """Scale each feature dimension to mean 0 and variance 1 over the items that have the modality."""

    def kept_dimensions(self, width: int) -> int:
        """How many dimensions features of ``width`` keep."""
        return min(width, self.feature_dimensions or width)
