from __future__ import annotations

import json

from flowpipe.runner.pool import Workers
from flowpipe.runner.run import Summary
from flowpipe.runner.stage import timed, times_of, within_memory


def test_times_add_up_over_the_runs_that_did_something(tmp_path):
    assert times_of(tmp_path) == {}
    (tmp_path / "times.json").write_text(json.dumps({"vectors": 100.0, "kernels": 3.0}))
    assert timed(tmp_path, "vectors", lambda: Summary(2, 1, 0)).done == 2
    found = times_of(tmp_path)
    assert 100 <= found["vectors"] < 101
    assert timed(tmp_path, "kernels", lambda: Summary(0, 3, 1)).failed == 1
    assert times_of(tmp_path) == found


def test_no_more_jobs_than_fit_in_memory():
    assert within_memory(Workers(8), 1) == Workers(8)
    assert within_memory(Workers(8, timeout=5), 1 << 60) == Workers(1, timeout=5)
    assert within_memory(Workers(0), 1 << 60) == Workers(0)
    far = Workers(8, "dask", "tcp://head:8786")
    assert within_memory(far, 1 << 60) == far
