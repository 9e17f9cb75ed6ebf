from __future__ import annotations

import sys
import types

import pytest

from flowpipe.datasets.base import Clip
from flowpipe.datasets.intervals import INTERVAL_SETS, IntervalKind, load_intervals
from flowpipe.datasets.intervals.listing import Listing, Row
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.trees import make, write


@pytest.fixture
def toy(monkeypatch):
    """A kind of intervals of one line and one file."""

    def read_toy(path, videos):
        label, name = path.read_text().split()
        clip = Clip((videos or path.parent) / name, name)
        return Listing("toy", path, (clip,), (Row("line 1", name, label, 0.0, 1.0),))

    module = types.ModuleType("toy_reader")
    module.read_toy = read_toy
    monkeypatch.setitem(sys.modules, "toy_reader", module)
    entry = IntervalKind("a toy", "toy_reader:read_toy", lambda path: path.suffix == ".toy")
    monkeypatch.setitem(INTERVAL_SETS, "toy", entry)


@pytest.mark.usefixtures("toy")
def test_a_new_kind_is_one_entry(tmp_path):
    make(tmp_path, "a.avi")
    found = load_intervals(write(tmp_path / "list.toy", "run a.avi"))
    assert (found.kind, found.classes) == ("toy", ("run",))
    with pytest.raises(FormatError, match=r"none of the kinds of intervals: .*toy: a toy"):
        load_intervals(tmp_path / "a.avi")
    with pytest.raises(
        ParameterError, match="must be one of auto, csv, activitynet, thumos14, toy"
    ):
        load_intervals(tmp_path, kind="toys")


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(ParameterError, match="does not exist; name the file of the intervals"):
        load_intervals(tmp_path / "gone.csv")
    path = write(tmp_path / "intervals.csv", "path,start,end,label", "a.avi,0,1,x")
    with pytest.raises(ParameterError, match="is not a folder"):
        load_intervals(path, tmp_path / "gone")


@pytest.mark.parametrize("kind", INTERVAL_SETS)
def test_every_kind_says_what_it_is(kind):
    entry = INTERVAL_SETS[kind]
    assert entry.title
    assert entry.published or kind == "csv"
