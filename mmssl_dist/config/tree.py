"""The job: every setting of a run, with its unit and scope. Defaults are what the documents report on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmssl_dist.config.search import Search
from mmssl_dist.config.section import (
    LIMIT,
    Count,
    Counts,
    Fraction,
    Name,
    Natural,
    Range,
    Rate,
    Section,
    Text,
    Weight,
)
from mmssl_dist.config.tracking import Tracking


class Columns(Section):
    """Names of the columns in the interaction files; the defaults are those ``synthesize`` writes."""

    user: Text = "user_id"
    """Column with the user's id, of any type."""
    item: Text = "item_id"
    """Column with the item's id, of any type."""
    time: Text | None = None
    """Column with a sortable time; needed by the leave-last-out and temporal splits."""
    split: Text | None = None
    """Column that tells the split: 0/train, 1/validation, 2/test; needed by the given split of tables."""


class Modality(Section):
    """Where one modality's item features are."""

    file: Text
    """Path under data.path: ``.npy`` (one row per item) or a Parquet file, folder or glob."""
    vector: Text = "vector"
    """Parquet only: the list column with the features."""
    item: Text = "item_id"
    """Parquet only: the column with the item's id."""


class Split(Section):
    """How interactions become training, validation and test sets."""

    method: Literal["given", "ratio", "leave_last_out", "temporal"] = "ratio"
    """given: by files or by columns.split; ratio: per user, at random; leave_last_out: each user's last two;
    temporal: by quantiles of time over all interactions."""
    validation: Fraction = 0.1
    """Share of the interactions for validation (ratio, temporal)."""
    test: Fraction = 0.2
    """Share of the interactions for the test (ratio, temporal)."""


def _usual_split(layout: str) -> Split:
    return Split(method="given" if layout == "mmssl" else "ratio")


class Data(Section):
    """The raw files."""

    path: Text
    """Folder or URL of the raw files."""
    layout: Literal["table", "inter", "mmssl"] = "table"
    """table: Parquet or CSV; inter: RecBole/MMRec ``.inter``; mmssl: train.json, val.json, test.json."""
    interactions: Text | None = None
    """table, inter: file, folder or glob under data.path; default interactions.parquet, or the only
    *.inter."""
    columns: Columns = Columns()
    """Column names of the interaction files; ``inter`` files name their own, unless set here."""
    modalities: Annotated[dict[Name, Modality], Field(min_length=1)]
    """One entry per modality; its key names the modality everywhere else."""
    titles: Text | None = None
    """Parquet or CSV under data.path with a column ``title`` beside columns.item: what the report calls
    items."""
    images: Text | None = None
    """What the report shows of items: a path under data.path with ``{item}`` where the id stands, such as
    pictures/{item}.jpg (JPEG, PNG, GIF, WebP), or Parquet with a binary column ``image`` beside
    columns.item."""
    split: Split = Field(default_factory=lambda data: _usual_split(data["layout"]))
    """How interactions are split; by default given in the layout mmssl, whose files are splits, else
    ratio."""
    min_interactions: Natural = 0
    """k-core: users and items with fewer interactions are dropped, repeatedly; 0 keeps all."""
    buckets: Count = 4
    """Hash buckets, so tasks and files per table, in which ids are mapped and interactions split."""


class Partition(Section):
    """How the graph is cut."""

    parts: Count = 4
    """Number of partitions P; fixed from then on, while the number of workers may change."""
    method: Literal["auto", "metis", "streaming", "random"] = "auto"
    """metis: smallest edge cut; streaming: passes over the edges with little memory beyond the graph; random:
    no graph algorithm; auto: metis where its estimated memory is at most metis_gigabytes, else streaming."""
    metis_gigabytes: Rate = 16.0
    """auto only: memory METIS may take, in GB."""
    item_neighbours: Natural = 10
    """Nearest items kept per item and modality, by the cosine of their features; 0 builds no item-item
    graph."""
    shuffle_features: bool = False
    """Give each item another item's features, at random: a control, which must lose what features are
    worth."""
    standardize: bool = True
    """Scale each feature dimension to mean 0 and variance 1 over the items that have the modality."""


class ItemGraph(Section):
    """The item-item graph of each modality: rows of similar items, averaged over a user's items for users."""

    weight: Weight = 1.0
    """Weight of its unit rows in the final rows; 0 switches it off."""
    fanout: Literal["all"] | Count = "all"
    """Entries sampled per item and modality, of partition.item_neighbours; "all" takes every one."""
    learned: bool = False
    """Learn how much each modality counts; otherwise all count alike."""


class ModalityGraph(Section):
    """The learned user-item graph of each modality (equation 2)."""

    size: Natural = 0
    """Items kept per user and modality, K; 0 switches the graph and its attention off."""
    fanout: Count = 10
    """Entries sampled per node and list: of a user's items, and of the users that list an item."""
    refresh_epochs: Count = 1
    """Epochs between two publications of the lists to the sampler."""


class Model(Section):
    """The model (reference equations 1 to 5)."""

    dimension: Count = 128
    """Width D of every row; their memory, their optimizer's and what workers send each other grow with it."""
    layers: Natural = 2
    """Propagation layers L over the interaction graph."""
    heads: Count = 4
    """Attention heads H; must divide the dimension."""
    id_weight: Weight = 0.36
    """Weight of the attended modality-aware rows in the start rows (equation 4)."""
    modality_weight: Weight = 0.1
    """Weight of the modality tower in the final rows (equation 5)."""
    feature_columns: Natural = 0
    """Last columns, of the D, in which items have their own projected features in place of an ID row and
    users have theirs, as in VBPR; 0: none, the tower's rows are those of equation 1."""
    dropout: Fraction = 0.2
    """Dropout on the projected tower rows, in training only."""
    item_graph: ItemGraph = ItemGraph()
    """The item-item graph."""
    modality_graph: ModalityGraph = ModalityGraph()
    """The learned modality lists."""


class Ranking(Section):
    """The loss that ranks a user's items above others (equation 6)."""

    loss: Literal["bpr", "softmax"] = "softmax"
    """bpr: one negative per pair; softmax: cosines with the positive and every candidate item the user
    doesn't know."""
    temperature: Rate = 0.2
    """softmax only: divisor of the cosines."""


class Contrastive(Section):
    """InfoNCE between modality rows and final rows of the batch's users (equation 7)."""

    rows: Literal["lists", "item_graph"] = "item_graph"
    """lists: each modality's rows over its learned lists, as published; item_graph: rows over the item-item
    graph."""

    weight: Weight = 0.001
    """Weight of the term; 0 leaves it out."""
    temperature: Rate = 0.5
    """tau."""


class Adversarial(Section):
    """Candidate critic and the generator's term (equation 8)."""

    weight: Weight = 1e-4
    """Weight of the generator's term; 0 leaves the critic out."""
    candidates: Annotated[int, Field(ge=2, lt=LIMIT)] | Literal["all"] = 512
    """Candidate items C of the global batch, for this term, the softmax and the learned lists: half
    positives, half uniform draws; "all": the catalogue."""
    hidden: Counts = (64, 32)
    """Widths of the critic's hidden layers."""
    penalty: Weight = 0.3
    """Weight of the gradient penalty."""
    gumbel_scale: Weight = 1e-5
    """Scale of the Gumbel noise on the known interactions."""
    gumbel_temperature: Rate = 0.005
    """Divisor of the Gumbel noise."""
    signal_scale: Weight = 100.0
    """Weight of the collaborative signal in the real rows."""


class Losses(Section):
    """What training minimises."""

    ranking: Ranking = Ranking()
    """Ranking term, with weight 1."""
    l2: Weight = 1e-4
    """L2 on the ID rows of the batch's users, positives and negatives, per pair."""
    tower_l2: Weight = 1e-5
    """L2 on the batch's tower rows, divided by the number of items (equation 9)."""
    contrastive: Contrastive = Contrastive()
    """Contrastive term."""
    adversarial: Adversarial = Adversarial()
    """Adversarial term."""


class RowOptimizer(Section):
    """Lazy Adam on ID rows, at their owner."""

    learning_rate: Rate = 2e-3
    """Step size."""
    second_moment: Literal["element", "row"] = "element"
    """element: as Adam; row: one second moment per row, which saves D - 1 floats a node."""


class DenseOptimizer(Section):
    """Adam on the dense weights, inside DeepSpeed."""

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
    """The loop."""

    epochs: Count = 100
    """Most epochs."""
    steps_per_epoch: Count | Literal["all"] = "all"
    """Steps between two chances of a validation: "all" takes every training interaction once. With fewer,
    epochs go on through the interactions where the one before ended, so that each is still taken once before
    any comes again."""
    batch_size: Count = 1024
    """Training pairs per step, over all workers; at least partition.parts."""
    fanout: Literal["all"] | Counts = (10, 10)
    """Neighbours sampled per node and hop, seeds first, one number per model layer; "all": every
    neighbour."""
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


class Evaluation(Section):
    """Full ranking."""

    ks: Counts = (10, 20, 50)
    """Cut-offs K of every metric."""
    metric: Annotated[str, Field(pattern=r"^(recall|precision|ndcg|hit_rate|mrr)@[1-9][0-9]{0,8}$")] = (
        "recall@20"
    )
    """Validation metric that stops training and chooses the checkpoint; its K must be among ks."""
    every_epochs: Count = 1
    """Epochs between validations."""
    patience: Count = 10
    """Validations without improvement after which training stops."""
    users: Count | Literal["all"] = "all"
    """Users ranked for, of those with held-out items: "all", or about so many, drawn at random and the same
    every time. The catalogue is always ranked whole."""
    contributions: bool = True
    """Tell what each modality contributes: the stage ranks once more for each, with all that comes from it
    left out."""
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


class Export(Section):
    """What is handed back."""

    k: Count = 50
    """Length of each user's recommendation list."""
    index: Index = Index()
    """The index of the items."""


class Scaling(Section):
    """Workers and what each one takes."""

    workers: Count | Range = 1
    """Workers W; at most partition.parts. [2, 8]: starts with 2 and takes more, up to 8, as machines come and
    go."""
    cpus_per_worker: Count = 1
    """Cores reserved in Ray per worker; also its number of compute threads."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs per worker; 0 trains on the CPU."""
    accelerator: Text | None = None
    """Accelerator type the workers need, as Ray names it (such as A100 or L4); any when not given."""
    memory_gb: Rate | None = None
    """Memory each worker may take, in GB: training refuses a job whose plan needs more. By default a worker's
    share of what Ray finds on the machines there are; not looked at where an autoscaler brings others."""
    wait_seconds: Count = 1800
    """Seconds to wait for machines or for other jobs to end, before giving up."""

    @property
    def fewest(self) -> int:
        """Workers that training starts with."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        """Workers that training may grow to."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def each(self) -> dict[str, float]:
        """Ray resources of one worker."""
        devices = {"GPU": float(self.gpus_per_worker)} if self.gpus_per_worker else {}
        # a sliver of it: Ray's machines have 1 of their accelerator's type
        kind = {f"accelerator_type:{self.accelerator}": 0.001} if self.accelerator else {}
        return {"CPU": float(self.cpus_per_worker)} | devices | kind


class Storage(Section):
    """How s3:// URLs are reached. Never keys: those come from the standard credential chain."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#]+/?$")] | None = None
    """Endpoint URL of an S3-compatible store, such as http://127.0.0.1:9000."""
    region: Text | None = None
    """Region of the buckets."""
    path_style: bool = False
    """Address buckets as path instead of host name, as most S3-compatible stores want."""
    anonymous: bool = False
    """Send no credentials."""
    retries: Natural = 5
    """Times a failed request is sent again."""
    cache_bytes: Annotated[int, Field(ge=1, lt=2**63)] = 100_000_000_000
    """Bytes of downloads that a machine keeps; beyond, those not used for longest go. What a run uses now
    stays."""


class JobSections(Section):
    """Every setting of a job, each valid alone; ``config.job.Job`` also checks them against each other."""

    output: Text
    """Folder or URL of the run; each stage publishes below it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of splits, initial weights and every draw."""
    data: Data
    """Raw files and split."""
    partition: Partition = Partition()
    """Cutting the graph."""
    model: Model = Model()
    """Model."""
    losses: Losses = Losses()
    """Losses."""
    training: Training = Training()
    """Training loop."""
    evaluation: Evaluation = Evaluation()
    """Ranking and metrics."""
    export: Export = Export()
    """Export."""
    scaling: Scaling = Scaling()
    """Workers."""
    storage: Storage = Storage()
    """Object storage."""
    search: Search = Search()
    """What `tune` tries."""
    tracking: Tracking = Tracking()
    """Where the run is told besides its output."""
