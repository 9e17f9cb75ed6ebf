"""Runs on real Dask and Ray clusters of several worker processes on this machine."""

from __future__ import annotations

import pytest

from flowpipe.errors import ParameterError
from flowpipe.runner.pool import ATTEMPTS, RunStoppedError, Workers, over_clips
from tests.helpers.work import ByName, Named
from tests.runner.pool.test_pool import attempts, gone

pytestmark = pytest.mark.slow

EXECUTORS = ["dask", "ray"]


@pytest.fixture(params=EXECUTORS)
def executor(request):
    pytest.importorskip({"dask": "distributed", "ray": "ray"}[request.param])
    return request.param


def outcomes(folder, *names, advance=lambda count: None, **workers):
    clips = [Named(name) for name in names]
    found = over_clips(ByName(folder), clips, workers=Workers(**workers), advance=advance)
    return {outcome.clip.name: outcome for outcome in found}


def test_how_clips_end_on_a_cluster(tmp_path, executor):
    """As on one machine: results, failures, counts; a death costs the clip in flight."""
    names = ["done-1", "skip", "warn", "special", "bug", "killed", "once", "sleep", "done-2"]
    counted = []
    ends = outcomes(tmp_path, *names, advance=counted.append, executor=executor, jobs=2, timeout=4)
    assert {name: end.status for name, end in ends.items()} == {
        "skip": "skipped",
        **dict.fromkeys(("special", "bug", "killed", "sleep"), "failed"),
        **dict.fromkeys(("warn", "once", "done-1", "done-2"), "done"),
    }
    assert (ends["special"].kind, ends["special"].reason) == ("special", "special is special")
    assert 'raise KeyError("left")' in ends["bug"].detail
    assert (ends["sleep"].kind, ends["killed"].kind) == ("timeout", "worker-died")
    assert f"was killed by SIGKILL (out of memory?), {ATTEMPTS} times" in ends["killed"].reason
    tries = {name: len(attempts(tmp_path, name)) for name in names}
    assert tries == {name: ATTEMPTS if name in ("killed", "once") else 1 for name in names}
    assert sum(counted) == 3 * 3
    assert all(gone(int(pid)) for name in names for pid in attempts(tmp_path, name))


def test_a_machine_of_the_cluster_that_dies(tmp_path, executor):
    """Its clips are tried again on another, at most a stated number of times."""
    names = ["parent", "parents", *(f"done-{number}" for number in range(6))]
    ends = outcomes(tmp_path, *names, executor=executor, jobs=2)
    # A clip that was done, but whose worker died before it could say so, is done again or found.
    assert {name: end.status for name, end in ends.items()} == {
        **dict.fromkeys(names, "done"),
        "parents": "failed",
    }
    assert ends["parents"].kind == "worker-died"
    assert f"worker died, {ATTEMPTS} times" in ends["parents"].reason
    for name in ("parent", "parents"):
        assert len(attempts(tmp_path, name)) == ATTEMPTS
    assert all(gone(int(pid)) for name in names for pid in attempts(tmp_path, name))


def test_a_full_disk_stops_a_run_on_a_cluster(tmp_path, executor):
    with pytest.raises(RunStoppedError, match="stopped at 'full': the disk is full"):
        outcomes(tmp_path, "full", "sleep", "done", executor=executor, jobs=1)
    assert not (tmp_path / "done").exists()


def test_a_cluster_that_runs_already(tmp_path, executor):
    """It is used at its address, and left running without anything of the run."""
    names = ["done-1", "warn", "special", "done-2"]
    statuses = {"done-1": "done", "warn": "done", "special": "failed", "done-2": "done"}
    if executor == "dask":
        from distributed import Client, LocalCluster

        with LocalCluster(2, threads_per_worker=2, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            for jobs in (None, 1):
                ends = outcomes(tmp_path, *names, executor="dask", address=address, jobs=jobs)
                assert {name: end.status for name, end in ends.items()} == statuses
            pids = {int(pid) for name in names for pid in attempts(tmp_path, name)}
            assert all(gone(pid) for pid in pids)
            with Client(address) as client:
                assert client.submit(sum, [1, 2]).result() == 3
        return
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        ends = outcomes(tmp_path, *names, executor="ray", address="auto")
        assert {name: end.status for name, end in ends.items()} == statuses
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_no_cluster_at_the_address(tmp_path, executor):
    address = {"dask": "tcp://127.0.0.1:9", "ray": "127.0.0.1:9"}[executor]
    with pytest.raises(ParameterError, match=f"address is '{address}': no .* answers there"):
        outcomes(tmp_path, "done", executor=executor, address=address)
