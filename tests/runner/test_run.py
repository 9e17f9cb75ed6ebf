from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.errors import ParameterError
from flowpipe.runner import progress
from flowpipe.runner.failures import FailureLog
from flowpipe.runner.pool import Outcome, RunStoppedError, Workers
from flowpipe.runner.provenance import RECORDS
from flowpipe.runner.run import Shard, Summary, as_shard, run_stage
from flowpipe.runner.run_status import states
from tests.helpers.clips import contents
from tests.helpers.work import ByName, Named


def run(folder, *names, **options):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    clips = [Named(name) for name in names]
    return run_stage(ByName(folder), clips, out=out, unit="pairs", workers=0, **options)


def logged(path: Path) -> dict[str, dict]:
    return {line["clip"]: line for line in map(json.loads, path.read_text().splitlines())}


def test_a_run_is_counted_and_its_failures_listed(tmp_path, capsys, caplog):
    summary = run(tmp_path, "done-1", "bug", "special", "skip", "special-2")
    assert (summary.done, summary.skipped, summary.failed) == (1, 1, 3)
    assert summary.exit_status == 1
    assert summary.out == tmp_path / "out"
    assert summary.failed_clips == ("bug", "special", "special-2")
    path = tmp_path / "out/.flowpipe/failures.jsonl"
    assert str(summary) == (
        f"5 clips: 1 done, 1 skipped, 3 failed (1 internal, 2 special), reasons in {path}"
    )
    lines = logged(path)
    assert lines["special"] == {
        "clip": "special",
        "path": "videos/special",
        "kind": "special",
        "reason": "special is special",
    }
    assert "Traceback" in lines["bug"]["detail"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings[1:] == [
        "failed: special: special is special",
        "failed: special-2: special-2 is special",
    ]
    assert capsys.readouterr() == ("", "")


def test_progress_is_printed_only_where_it_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    run(tmp_path, "done")
    assert capsys.readouterr() == ("", "")
    clip = [Named("done")]
    workers = Workers(0, progress=True)
    run_stage(ByName(tmp_path), clip, out=tmp_path / "out", unit="pairs", workers=workers)
    out, err = capsys.readouterr()
    assert (out, "1/1 clips, 3 pairs" in err) == ("", True)


def test_a_run_without_failures(tmp_path):
    summary = run(tmp_path, "done", "skip")
    assert (summary.exit_status, summary.failures, summary.reasons) == (0, None, {})
    assert summary.failed_clips == ()
    assert str(summary) == "2 clips: 1 done, 1 skipped"
    assert str(Summary(1, 0, 0, tmp_path)) == "1 clip: 1 done"
    assert contents(tmp_path / "out") == {}
    assert run(tmp_path, "special", record=False).failures is None


def test_failures_stay_until_the_clip_succeeds(tmp_path):
    path = tmp_path / "out/.flowpipe/failures.jsonl"
    run(tmp_path, "special", "plain")
    run(tmp_path, "plain", "bug")
    assert set(logged(path)) == {"special", "plain", "bug"}
    assert len(path.read_text().splitlines()) == 3
    log = FailureLog(path, tmp_path / "out")
    log.begin({"special"})
    assert set(logged(path)) == {"plain", "bug"}
    log.begin({"plain", "bug"})
    assert not path.exists()


def failure(name):
    return Outcome(Named(name), "failed", "special", f"{name} \udcff\n", None)


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path):
    log = FailureLog(tmp_path / ".flowpipe/failures.jsonl", tmp_path)
    log.add(failure("a"))
    log.add(failure("b"))
    path = tmp_path / ".flowpipe/failures.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    log.begin({"c"})
    log.add(failure("c"))
    assert set(logged(path)) == {"a", "c"}
    assert logged(path)["c"]["reason"] == "c \udcff\n"


def test_each_shard_has_its_own_list(tmp_path):
    names = ["special-1", "special-2", "special-3", "special-4", "special-5"]
    for index in (1, 2):
        assert run(tmp_path, *names, shard=Shard(index, 2)).failed == 4 - index
    listed = {
        path.name: set(logged(path)) for path in (tmp_path / "out" / RECORDS).glob("failures*")
    }
    assert listed == {
        "failures-1-of-2.jsonl": {"special-1", "special-3", "special-5"},
        "failures-2-of-2.jsonl": {"special-2", "special-4"},
    }


def test_a_run_that_is_stopped_keeps_the_failures_so_far(tmp_path):
    with pytest.raises(RunStoppedError):
        run(tmp_path, "special", "full", "plain")
    assert set(logged(tmp_path / "out/.flowpipe/failures.jsonl")) == {"special"}


@given(count=st.integers(1, 12), sizes=st.lists(st.integers(0, 1000), max_size=40))
def test_shards_are_disjoint_complete_and_even(count, sizes):
    clips = [Named(f"clip-{number}") for number in range(len(sizes))]
    bytes_of = {clip.name: size for clip, size in zip(clips, sizes, strict=True)}
    parts = [Shard(index, count).of(clips, bytes_of) for index in range(1, count + 1)]
    assert sorted(clip.name for part in parts for clip in part) == sorted(bytes_of)
    loads = [sum(bytes_of[clip.name] for clip in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes, default=0)
    if len(set(sizes)) <= 1:
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # Which part a clip is in does not depend on the order in which a file system lists them.
    for index, part in enumerate(parts, 1):
        assert [*reversed(Shard(index, count).of(clips[::-1], bytes_of))] == part


def test_a_run_forgets_the_failures_of_other_divisions(tmp_path):
    names = ["special-1", "plain-1", "done"]
    for index in (1, 2):
        run(tmp_path, *names, shard=Shard(index, 2))
    out = tmp_path / "out"
    assert {path.name for path in (out / RECORDS).glob("failures*")} == {
        "failures-1-of-2.jsonl",
        "failures-2-of-2.jsonl",
    }
    run(tmp_path, "plain-1")
    left = {name for path in (out / RECORDS).glob("failures-*") for name in logged(path)}
    assert left == {"special-1"}
    assert set(logged(out / ".flowpipe/failures.jsonl")) == {"plain-1"}
    assert set(states(out)) == {"1-of-1"}


def test_the_state_of_a_run_is_written_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    Path("videos/done-1").write_bytes(bytes(70))
    Path("videos/special").write_bytes(bytes(30))
    run(tmp_path, "done-1", "skip", "special", "done-2")
    (state,) = states(tmp_path / "out").values()
    assert (state.state, state.alive()) == ("finished", False)
    assert (state.clips, state.done, state.skipped, state.failed) == (4, 2, 1, 1)
    assert (state.units, state.unit) == (6, "pairs")
    assert (state.bytes_total, state.bytes_left, state.bytes_worked) == (100, 0, 70)
    assert state.seconds_left == 0
    with pytest.raises(RunStoppedError):
        run(tmp_path, "done-1", "full", "plain")
    (state,) = states(tmp_path / "out").values()
    assert (state.state, state.done, state.clips) == ("stopped", 1, 3)


def test_shards_are_written_i_of_n():
    assert as_shard("2/8") == as_shard(Shard(2, 8)) == Shard(2, 8)
    assert as_shard(None) == Shard(1, 1)
    for text in ("", "2", "2/", "a/b", "-1/4", "1/4/2", "1.0/4", "²/4"):
        with pytest.raises(ParameterError, match="it must be i/n"):
            as_shard(text)
    for text in ("0/4", "5/4", "1/0"):
        with pytest.raises(ParameterError, match=f"shard is {text}"):
            Shard.parse(text)
