"""What a training cannot do without the modalities that ``partition`` left out."""

from __future__ import annotations

from collections.abc import Iterator

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.launch.earlier_run import START_FROM, find_earlier_run
from mmssl_dist.storage import Manifest

_REMEDY = "Check that the ids, or the order, of the features are those of the items, or set {}."


def check_modalities(job: Job, partitions: Manifest) -> None:
    """Refuse terms that compare or imitate modalities of which too few are left, and an earlier run that has
    others.

    Raises:
        InputError: names the settings, and the modalities.
    """
    facts = partitions.facts
    left_out, modalities = facts.get("left_out", ()), sorted(facts["modalities"])
    kept = [modality for modality in modalities if modality not in left_out]
    needing = [setting for setting, least in _needs(job) if len(kept) < least]
    if left_out and needing:
        raise InputError(
            ", ".join(needing),
            f"{', '.join(kept) or 'no modality'} kept and {', '.join(left_out)} left out",
            "such a part of the model needs modalities that say something of what users choose "
            "(partition.least_lift)",
            _REMEDY.format("partition.least_lift: 0"),
        )
    if job.training.start_from is not None:
        earlier = sorted(find_earlier_run(job).partitions.facts["modalities"])
        if earlier != modalities:
            raise InputError(
                START_FROM,
                f"a run with {', '.join(earlier)}, where this one has {', '.join(modalities)}",
                "both runs have the same modalities; partition leaves out what says nothing of what users "
                "choose",
                _REMEDY.format("partition.least_lift: 0 in both"),
            )


def _needs(job: Job) -> Iterator[tuple[str, int]]:
    """Settings that are on, and how many modalities they need."""
    losses, model = job.losses, job.model
    if model.modality_graph.size:
        yield "model.modality_graph.size", 1
    if model.feature_columns:
        yield "model.feature_columns", 1
    if losses.adversarial.has_critic:
        yield "losses.adversarial.kind", 1
    if losses.adversarial.perturbs and losses.adversarial.rows != "final":
        yield "losses.adversarial.rows", 1
    if losses.contrastive.weight:
        yield "losses.contrastive.rows", 2 if losses.contrastive.rows == "modalities" else 1
