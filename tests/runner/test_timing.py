from __future__ import annotations

import json

from flowpipe.runner.run import Summary
from flowpipe.runner.timing import timed, times_of


def test_times_add_up_over_the_runs_that_did_something(tmp_path):
    assert times_of(tmp_path) == {}
    (tmp_path / "times.json").write_text(json.dumps({"vectors": 100.0, "kernels": 3.0}))
    assert timed(tmp_path, "vectors", lambda: Summary(2, 1, 0, tmp_path)).done == 2
    found = times_of(tmp_path)
    assert 100 <= found["vectors"] < 101
    assert timed(tmp_path, "kernels", lambda: Summary(0, 3, 1, tmp_path)).failed == 1
    assert times_of(tmp_path) == found
