"""The ``training``, ``evaluation`` and ``export`` sections: the loop, the ranking and what is published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmssl_dist.config.section import (
    METRIC,
    Count,
    Counts,
    Day,
    Fraction,
    Natural,
    Rate,
    Section,
    Text,
    Weight,
)


class RowOptimizer(Section):
    """Lazy Adam updates ID rows at their owner."""

    learning_rate: Rate = 2e-3
    """Step size."""
    second_moment: Literal["element", "row"] = "element"
    """element: as Adam; row: one second moment per row, which saves D - 1 floats a node."""


class DenseOptimizer(Section):
    """Adam updates the dense weights, inside DeepSpeed."""

    learning_rate: Rate = 5.5e-4
    """Step size of projections and attention."""
    critic_learning_rate: Rate = 3e-4
    """Step size of the critic (betas 0.5 and 0.9)."""
    zero_stage: Literal[0, 1, 2] = 0
    """DeepSpeed ZeRO stage of both engines."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numbers the dense weights compute in; ID rows stay fp32."""
    clip: Weight = 0.0
    """Largest norm of the dense gradient per engine; 0 does not clip."""


class Training(Section):
    """These settings control the training loop."""

    epochs: Count = 100
    """Most epochs."""
    start_from: str | None = None
    """Output of a trained run to start from, a folder or URL: rows, moments and dense weights of its best
    checkpoint are taken over by external id. Users and items that it does not know start from their known
    neighbours in this run's graph."""
    steps_per_epoch: Count | Literal["all"] = "all"
    """Steps between two chances of a validation: "all" takes every training interaction once (but see
    user_exponent). With fewer, an epoch continues with the interactions where the one before ended, so that
    each is still taken once before any comes again."""
    user_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """A user of d interactions gives pairs in proportion to d to this power. 1: every interaction once in a
    pass; 0: every user equally often, as in the released code of MMSSL and LightGCN."""
    batch_size: Count = 1024
    """Training pairs per step, over all workers; at least partition.parts."""
    fanout: Literal["all"] | Counts = (10, 10)
    """Neighbours sampled per node and hop, seeds first, one number per model layer; "all": every
    neighbour."""
    sampler: Literal["auto", "dgl", "device"] = "auto"
    """What draws neighbours: "dgl", DGL on the CPU; "device", where the worker trains, each draw a function
    of its node, so that all devices draw alike. "auto": "device" on a GPU and where DGL is not installed,
    else "dgl"."""
    wire: Literal["fp32", "bf16"] = "fp32"
    """What ID and tower rows of other workers and their gradients travel as; "bf16" halves their bytes and
    rounds them to 8 bits, so that the numbers of a training depend on W a little."""
    prefetch: Natural = 2
    """Batches sampled ahead of the step, per worker; 0 samples within the step."""
    rows: RowOptimizer = RowOptimizer()
    """Optimizer of the ID rows."""
    dense: DenseOptimizer = DenseOptimizer()
    """Optimizer of the dense weights."""
    keep_checkpoints: Count = 2
    """Checkpoints kept: the best ones by the stopping metric; the latest stays besides."""
    checkpoint_minutes: Rate = 15.0
    """Longest time between two checkpoints; every validation makes one as well."""
    max_failures: Natural = 3
    """Times a lost worker group is started again from the last checkpoint; machines that the cloud takes away
    on notice do not count."""
    timeout_seconds: Count = 600
    """Longest a worker waits for another in one collective."""


LENGTH_EXPONENTS = (0.5, 0.75, 1.25, 1.5, 2.0)
"""Compared with the dot product, 1, where validation chooses the exponent of items' lengths."""


class Evaluation(Section):
    """Evaluation ranks all items."""

    ks: Counts = (10, 20, 50)
    """Cut-offs K of every metric."""
    metric: Annotated[str, Field(pattern=METRIC)] = "recall@20"
    """Validation metric that stops training and chooses the checkpoint; its K must be among ks."""
    length_exponent: Literal["auto"] | Annotated[float, Field(ge=0.0, le=4.0)] = "auto"
    """How much the length of an item's row counts in its score: its exponent there. 1: the score is the dot
    product; 0: the cosine with a user's row. "auto": training validates with 1. For its best checkpoint 0.5,
    0.75, 1.25, 1.5 and 2 are tried as well, and metrics and export take the best of them by ``metric`` where
    it gains more than a standard error."""
    every_epochs: Count = 1
    """Epochs between validations."""
    patience: Count = 10
    """Validations without improvement after which training stops."""
    users: Count | Literal["all"] = "all"
    """Users ranked for in each split, of those with held-out items: "all", or about so many, drawn at random
    and the same every time. The catalogue is always ranked whole."""
    contributions: bool = True
    """Report what each modality contributes: the stage ranks again for each, without anything that comes from
    it."""
    user_block: Count = 256
    """Users scored at once, per worker; bounds memory."""
    item_block: Count = 65536
    """Items scored at once, per worker; bounds memory."""


class Index(Section):
    """The FAISS index of the items, searched by dot product."""

    kind: Literal["auto", "flat", "hnsw", "ivf"] = "auto"
    """flat: exact; hnsw: a graph; ivf: cells, an inverted file; auto: flat up to exact_up_to items, ivf
    beyond."""
    exact_up_to: Count = 100_000
    """auto only: items up to which the index is exact."""
    links: Annotated[int, Field(ge=2)] = 32
    """hnsw: links of an item; bounds memory (8 bytes each) and quality."""
    build_width: Count = 100
    """hnsw: candidates looked at for the links of an item."""
    recall: Fraction = 0.97
    """The share of the exact top 20 that a search has to find where search_width or probes is auto."""
    search_width: Count | Literal["auto"] = "auto"
    """hnsw: candidates looked at in a search; auto: the fewest that find the share ``recall``."""
    cells: Count | Literal["auto"] = "auto"
    """ivf: cells that items are sorted into; auto: four times the root of their number."""
    probes: Count | Literal["auto"] = "auto"
    """ivf: cells looked into in a search; auto: the fewest that find the share ``recall``."""
    recall_users: Count = 1000
    """Users whose exact top 20 the index's is compared with; the share found is in the manifest."""


class ListTable(Section):
    """A table that keeps the lists of every day. A row for each user and rank has the columns user_id, rank
    (from 1), item_id, score, and date, by which the table is split."""

    path: Text
    """Folder or URL of the table, outside of output; it is made where there is none."""
    format: Literal["parquet", "delta"] = "parquet"
    """parquet: folders date=2026-11-30, as Hive names them; delta: a Delta Lake table (extra ``delta``)."""
    date: Day | None = None
    """Day of the rows; those that the table has of it are replaced. By default the day on which the command
    starts, in UTC."""


Excluded = Literal["known", "training"]
"""A user's items that lists leave out."""


class Export(Section):
    """What is handed back."""

    k: Count = 50
    """Length of each user's recommendation list."""
    recommendations: Literal["exact", "index", "none"] = "exact"
    """exact: a list for every user, ranked over all items. index: through the index of the items, which finds
    about the share index.recall of the exact lists. none: no lists; ``recommend`` makes those of the users
    asked for."""
    exclude: Excluded = "known"
    """What a user's list leaves out, also in ``recommend`` and in the service. known: all items that the user
    has in the data, of training, validation and test. training: those of training alone, so that lists can
    be compared with the test split."""
    users: Text | None = None
    """File or URL with a column user_id, or else the one that data.columns.user names, Parquet, CSV, TSV or
    JSON lines: only these users get a list; by default all."""
    table: ListTable | None = None
    """The lists as rows of a table by day, too; none by default."""
    index: Index = Index()
    """The index of the items."""
