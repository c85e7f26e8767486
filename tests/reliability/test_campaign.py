"""A few cases of the fault campaign; `make chaos` runs all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reliability.campaign import Campaign
from tests.reliability.cases import Case, cases
from tests.reliability.target import FEW, left_over


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    made = Campaign(tmp_path_factory.mktemp("campaign"), FEW)
    yield made
    assert left_over(made.commands) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", cases(1, few=True), ids=lambda case: f"{case.kind}, {case.stage}")
def test_nothing_is_lost(campaign: Campaign, case: Case) -> None:
    result = campaign.run(case)
    assert result.error == ""
    assert result.lost == 0
    assert result.injected
    assert result.detected


def test_the_whole_campaign_is_fifty_faults_or_more_at_every_stage() -> None:
    actual = cases(1, few=False)
    assert len(actual) >= 50
    assert {case.stage for case in actual} == {"prepare", "partition", "train", "evaluate", "export"}
    assert {case.workers for case in actual} == {1, 2}
