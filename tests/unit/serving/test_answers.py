"""Lists in notebooks: frames with what is known, and HTML in which nothing of the data is markup."""

from __future__ import annotations

import numpy as np

from mmssl_dist.serving.answers import Ranked, RankedUsers

SCORES = np.asarray([2.5, 1.25], np.float32)


def test_a_frame_has_a_row_per_item_numbered_by_rank():
    frame = Ranked(["a", "b"], SCORES, ["First", None]).to_pandas()
    assert frame.columns.tolist() == ["item", "title", "score"]
    assert frame.index.tolist() == [1, 2]
    assert frame.index.name == "rank"
    assert frame.score.tolist() == [2.5, 1.25]
    assert Ranked([7, 8], SCORES).to_pandas().columns.tolist() == ["item", "score"]
    assert RankedUsers(["u"], SCORES[:1]).to_pandas().user.tolist() == ["u"]
    assert len(Ranked([], SCORES[:0]).to_pandas()) == 0


def test_html_escapes_ids_and_titles():
    html = Ranked(["<b>a", "b"], SCORES, ["<script>", "x"])._repr_html_()
    assert "<table" in html
    assert "&lt;b&gt;a" in html
    assert "<script>" not in html
    assert "2.5000" in html
    assert "<td>u</td>" in RankedUsers(["u"], SCORES[:1])._repr_html_()
