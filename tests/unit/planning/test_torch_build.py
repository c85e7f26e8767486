"""The build of torch that `plan` counts with."""

from __future__ import annotations

import pytest
import torch

from mmssl_dist.planning.torch_build import has_cuda_build, says_cuda


def test_it_is_what_torch_itself_says() -> None:
    assert has_cuda_build() == (torch.version.cuda is not None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = '13.0'", True),
        ('cuda = "12.8"', True),
        ("cuda: Optional[str] = None", False),
        ("cuda_like = '1'", False),
    ],
)
def test_the_line_of_its_version_file(line: str, expected: bool) -> None:
    assert says_cuda(f"debug = False\n{line}\nhip: Optional[str] = None\n") is expected
