from __future__ import annotations

import logging
from collections import Counter

import pytest

from flowpipe.runner.pool import RunStoppedError, over_clips_on_devices
from tests.helpers.work import Named, OnDevices

TWO = ("cpu:0", "cpu:1")


def outcomes(folder, names, *, devices=TWO, threads=1, broken=(), advance=lambda n: None):
    work = OnDevices(folder, broken)
    clips = [Named(name) for name in names]
    found = over_clips_on_devices(work, clips, devices=devices, threads=threads, advance=advance)
    return {outcome.clip.name: outcome for outcome in found}


def used(folder) -> Counter[str]:
    lines = (folder / "devices").read_text().splitlines()
    return Counter(line.split()[1] for line in lines)


def test_clips_are_given_out_as_they_finish(tmp_path):
    counts: list[int] = []
    names = [f"ok-{number}" for number in range(12)]
    found = outcomes(tmp_path, names, advance=counts.append)
    assert {outcome.status for outcome in found.values()} == {"done"}
    assert set(found) == set(names)
    assert sum(counts) == 3 * len(names)
    # cpu:1 takes half a second per clip.
    assert used(tmp_path)["cpu:0"] > used(tmp_path)["cpu:1"] >= 1


def test_a_device_processes_several_clips_at_once(tmp_path):
    names = [f"{kind}-{number}" for number in range(3) for kind in ("ok", "skip", "bug")]
    found = outcomes(tmp_path, names, threads=3)
    status = {name: outcome.status for name, outcome in found.items()}
    wanted = {"ok": "done", "skip": "skipped", "bug": "failed"}
    assert status == {name: wanted[name.partition("-")[0]] for name in names}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_clips_of_a_device_that_fails_are_tried_again_on_another(tmp_path, caplog, threads):
    names = [f"broken-cpu:1-{number}" for number in range(7)]
    with caplog.at_level(logging.WARNING):
        found = outcomes(tmp_path, names, threads=threads)
    assert {outcome.status for outcome in found.values()} == {"done"}
    # Nothing goes to a device that has failed three times in a row.
    assert used(tmp_path)["cpu:1"] <= 3 * threads
    assert "cpu:1 failed and is started again: an illegal memory access on cpu:1" in caplog.text


def test_a_device_that_cannot_be_used_is_left_out(tmp_path, caplog):
    found = outcomes(tmp_path, [f"ok-{number}" for number in range(4)], broken=("cpu:1",))
    assert {outcome.status for outcome in found.values()} == {"done"}
    assert set(used(tmp_path)) == {"cpu:0"}
    assert (
        "cpu:1 is not used any more: FlowpipeError: no such device; devices left: cpu:0"
        in caplog.text
    )


def test_a_device_that_has_worked_is_started_again(tmp_path, caplog):
    """One clip that breaks every device, or ends the process, fails alone."""
    names = ["poison", "ok-0", "segfault", "ok-1", "ok-2"]
    found = outcomes(tmp_path, names, devices=("cpu:0",))
    failed = {name: outcome for name, outcome in found.items() if outcome.status != "done"}
    assert set(failed) == {"poison", "segfault"}
    assert {outcome.kind for outcome in failed.values()} == {"worker-died"}
    assert failed["poison"].reason == "cpu:0: an illegal memory access on cpu:0, 2 times"
    assert "killed by SIGSEGV" in failed["segfault"].reason
    assert "cpu:0 failed and is started again" in caplog.text


@pytest.mark.parametrize("devices", [("cpu:0",), pytest.param(TWO, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cause", ["poison", "segfault"])
def test_clips_beside_one_that_breaks_the_device_are_done(tmp_path, devices, cause):
    """Which of the clips broke it is unknown; each is tried again alone, which tells."""
    names = [f"{cause}-0", "slow-0", f"{cause}-1", "slow-1", "slow-2", "ok-0"]
    found = outcomes(tmp_path, names, devices=devices, threads=3)
    failed = {name for name, outcome in found.items() if outcome.status != "done"}
    assert set(found) == set(names)
    assert failed == {f"{cause}-0", f"{cause}-1"}


def test_a_clip_whose_thread_ends_is_not_waited_for(tmp_path):
    found = outcomes(tmp_path, ["quit-0", "ok-0"], devices=("cpu:0",), threads=2)
    assert (found["quit-0"].status, found["ok-0"].status) == ("failed", "done")
    assert "exited with status 1, 2 times" in found["quit-0"].reason


def test_without_a_device_the_run_stops(tmp_path):
    with pytest.raises(RunStoppedError, match="no device is left") as caught:
        outcomes(tmp_path, ["ok-0", "ok-1", "ok-2"], broken=TWO)
    assert "cpu:0: FlowpipeError: no such device; cpu:1: FlowpipeError" in str(caught.value)


def test_a_full_disk_stops_the_run(tmp_path):
    with pytest.raises(RunStoppedError, match="the disk is full"):
        outcomes(tmp_path, ["full-0", "ok-1"])


def test_no_clips_start_no_process(tmp_path):
    assert outcomes(tmp_path, [], broken=TWO) == {}
