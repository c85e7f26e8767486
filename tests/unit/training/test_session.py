"""The session without Ray."""

from __future__ import annotations

from mmssl_dist.training.session import LocalSession


def test_shares_of_several_workers_make_one_checkpoint_and_the_newest_is_found(tmp_path):
    run, first, second = tmp_path / "run", LocalSession(tmp_path / "run"), LocalSession(tmp_path / "run")
    assert first.latest() is None
    for epoch in (1.0, 2.0):
        for rank, session in enumerate((first, second)):
            share = tmp_path / f"share-{rank}-{epoch}"
            share.mkdir()
            (share / f"rows-{rank}").write_text(f"{epoch}")
            session.report({"epoch": epoch}, share)
    first.report({"epoch": 3.0})
    assert first.reports == [{"epoch": 1.0}, {"epoch": 2.0}, {"epoch": 3.0}]
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint-00000", "checkpoint-00001"]
    latest = LocalSession(run).latest()
    assert latest is not None
    assert [latest.relative(f) for f in latest.files()] == ["rows-0", "rows-1"]
    assert (latest / "rows-1").read_bytes() == b"2.0"
