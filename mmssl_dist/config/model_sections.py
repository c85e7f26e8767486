"""The ``model`` and ``losses`` sections: what is trained, and what training minimises."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmssl_dist.config.section import LIMIT, Count, Counts, Fraction, Natural, Rate, Section, Text, Weight


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
    """Here the model is configured (equations 1 to 5)."""

    name: Text | None = None
    """What tables call it; by default mmssl, or lightgcn or mf where no part takes item features."""
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


class RankingLoss(Section):
    """The loss that ranks a user's items above others (equation 6)."""

    loss: Literal["bpr", "softmax"] = "softmax"
    """bpr: one negative per pair; softmax: cosines with the positive and every candidate item the user
    doesn't know."""
    temperature: Rate = 0.2
    """softmax only: divisor of the cosines."""


class Contrastive(Section):
    """InfoNCE compares two kinds of rows of the same node (equation 7)."""

    rows: Literal["lists", "item_graph", "modalities"] = "item_graph"
    """lists: users' rows over each modality's learned lists against their final rows, as published;
    item_graph: rows over the item-item graph against the mean of the propagated layers alone, of users and
    candidates; modalities: candidates' rows over the item-item graphs of every two modalities."""

    weight: Weight = 0.0
    """Weight of the term; 0 leaves it out."""
    temperature: Rate = 0.2
    """tau."""


class Adversarial(Section):
    """The adversarial term is equation 8."""

    kind: Literal["perturbation", "critic", "none"] = "none"
    """perturbation: the ranking loss again, with rows moved towards a higher loss, as APR and AMR do;
    critic: a WGAN between generated and real rows over the candidates, as published; none: no term. A job
    that gives `eps` or `rows` has the perturbation by default, one that gives other settings of the term the
    critic."""
    weight: Weight = 0.5
    """Weight of the term; 0 leaves it out. With the critic the default is 1e-4."""
    eps: Rate = 0.1
    """perturbation only: how far a row moves, as a share of the length of the rows named by `rows`."""
    rows: Literal["final", "modality", "both"] = "final"
    """perturbation only: what moves. final: the final rows of users and items; modality: the items' rows over
    the item-item graph alone; both: items move by the sum of the two."""
    hidden: Counts = (64, 32)
    """critic only: widths of its hidden layers."""
    penalty: Weight = 0.3
    """critic only: weight of the gradient penalty."""
    gumbel_scale: Weight = 1e-5
    """critic only: scale of the Gumbel noise on the known interactions."""
    gumbel_temperature: Rate = 0.005
    """critic only: divisor of the Gumbel noise."""
    signal_scale: Weight = 100.0
    """critic only: weight of the collaborative signal in the real rows."""

    @property
    def perturbs(self) -> bool:
        """Whether the term is on and perturbs rows."""
        return self.kind == "perturbation" and self.weight > 0

    @property
    def has_critic(self) -> bool:
        """Whether the term is on and trains a critic."""
        return self.kind == "critic" and self.weight > 0


class Losses(Section):
    """Training minimises the sum of these terms."""

    ranking: RankingLoss = RankingLoss()
    """Ranking term, with weight 1."""
    candidates: Annotated[int, Field(ge=2, lt=LIMIT)] | Literal["all"] = 512
    """Candidate items C of the global batch, shared by the softmax, the adversarial term and the learned
    lists: half positives, half uniform draws; "all": the catalogue."""
    l2: Weight = 1e-4
    """L2 on the ID rows of the batch's users, positives and negatives, per pair."""
    tower_l2: Weight = 1e-5
    """L2 on the batch's tower rows, divided by the number of items (equation 9)."""
    contrastive: Contrastive = Contrastive()
    """Contrastive term."""
    adversarial: Adversarial = Adversarial()
    """Adversarial term."""

    @property
    def use_candidates(self) -> bool:
        """Whether a term needs the candidate items; the learned lists need them too."""
        contrasted = self.contrastive.weight > 0 and self.contrastive.rows != "lists"
        return self.ranking.loss != "bpr" or self.adversarial.has_critic or contrasted
