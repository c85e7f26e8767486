"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmssl_dist.data.images import Images
from mmssl_dist.report.list_quality import ListQuality

FactsByStage = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ItemLabels:
    """Titles and images of items, by the text of their id; an item with neither goes by its id."""

    titles: Mapping[str, str]
    images: Images


@dataclass(frozen=True)
class Uplift:
    """How much better than popularity, as a share of popularity's value: 0.5 is half as much again.

    Attributes:
        low, high: 95 % bootstrap interval over users.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that is known of a run.

    Attributes:
        title: the run's name.
        about: what stands below it: data set, date, time and machine of training, version.
        uplift: the metric over popularity's, as a share, with its interval; None where it is not known.
        model: the model's name.
        facts: "dataset", "partitions", "training", "evaluation", "export" -> facts of the manifest, of the
            stages that have published.
        missing: commands of the stages that have not.
        lists: the quality of the exported lists; None without any.
        labels: titles and images of the items in ``lists``.
        job: the resolved job, as YAML.
        versions: package -> version.
        stamp: says what the report was made from; ``stamp_of`` finds it again.
    """

    title: str
    about: str
    uplift: Uplift | None
    model: str
    facts: FactsByStage
    missing: Sequence[str]
    lists: ListQuality | None
    labels: ItemLabels
    job: str
    versions: Mapping[str, str]
    stamp: str
