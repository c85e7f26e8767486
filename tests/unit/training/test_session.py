"""The session without Ray."""

from __future__ import annotations

from tests.sessions import LocalSession


def test_shares_of_several_workers_make_one_checkpoint_and_the_newest_is_found(tmp_path):
    run, first, second = tmp_path / "run", LocalSession(tmp_path / "run"), LocalSession(tmp_path / "run")
    assert first.checkpoints() == []
    for epoch in (1.0, 2.0):
        for rank, session in enumerate((first, second)):
            share = tmp_path / f"share-{rank}-{epoch}"
            share.mkdir()
            (share / f"rows-{rank}").write_text(f"{epoch}")
            session.report({"epoch": epoch}, share)
    first.report({"epoch": 3.0})
    assert first.reports == [{"epoch": 1.0}, {"epoch": 2.0}, {"epoch": 3.0}]
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint-00000", "checkpoint-00001"]
    latest, before = LocalSession(run).checkpoints()
    assert [latest.relative(f) for f in latest.files()] == ["rows-0", "rows-1"]
    assert (latest / "rows-1").read_bytes() == b"2.0"
    assert (before / "rows-1").read_bytes() == b"1.0"


def test_checkpoints_within_an_epoch_are_due_as_often_as_asked(tmp_path):
    assert [LocalSession(tmp_path).checkpoint_due(int) for _ in range(3)] == [False] * 3
    session = LocalSession(tmp_path, every=2)
    assert [session.checkpoint_due(int) for _ in range(5)] == [False, True, False, True, False]
