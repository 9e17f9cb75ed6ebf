"""Comparisons of systems whose networks and solvers are stubs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from flowpipe.errors import FormatError, ParameterError
from flowpipe.pipelines.compare import measure
from flowpipe.pipelines.compare.run import compare
from flowpipe.pipelines.compare.system import NotAvailableError, System
from flowpipe.pipelines.compare.systems import SYSTEMS
from flowpipe.runner.pool import RunStoppedError
from tests.helpers.systems import Stub, made_up

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures take most of the time, and have tests of their own."""
    monkeypatch.setattr("flowpipe.report.comparison.draw_accuracies", lambda *_: b"")
    monkeypatch.setattr("flowpipe.report.comparison.draw_costs", lambda *_: [])


@pytest.fixture
def stubs():
    """Four systems in place of the table."""
    made = {
        "size": Stub(1, 0.1),
        "idt": Stub(2, 0.7, ("trajectories",)),
        "tsn": Stub(3, 0.6, ("rgb", "flow"), work=1e9),
        "i3d": Stub(4, 0.8, ("rgb",), work=1e10),
    }
    groups = {"size": ("control", 0), "idt": ("classical", 1), "tsn": ("2d", 4), "i3d": ("3d", 4)}
    table = {name: stub.system(*groups[name]) for name, stub in made.items()}
    with patch.dict(SYSTEMS, table, clear=True):
        yield made


def runs(stubs):
    return {name: len(stub.runs) for name, stub in stubs.items()}


def metrics(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture
def go(tmp_path, stubs):
    dataset, protocol = made_up()

    def run(*systems, out=tmp_path / "out", **options):
        return compare(dataset, systems or ("all",), out, protocol, workers=0, **options)

    return run


def test_each_system_is_run_once_and_is_in_the_results(go, stubs, tmp_path):
    found = go()
    assert runs(stubs) == dict.fromkeys(stubs, 1)
    assert (found.not_run, found.failed) == ({}, ())
    content = metrics(tmp_path / "out")
    assert list(content["systems"]) == ["size", "idt", "tsn", "i3d"]
    assert content["tests"] == 24
    assert set(content["systems"]["tsn"]["streams"]) == {"rgb", "flow"}
    assert content["systems"]["tsn"]["with_idt"]["accuracy"]["value"] > 0.5
    assert content["systems"]["size"]["with_idt"] is None
    assert len(content["pairs"]) == 6
    assert content["weights_in_fusion"] == {"frames": 1.0, "flow": 1.5, "SVMs": 1.0}
    go()
    assert runs(stubs) == dict.fromkeys(stubs, 1)
    assert metrics(tmp_path / "out") == content


def test_systems_of_an_earlier_call_are_shown_too(go, stubs, tmp_path):
    go("idt")
    go("tsn", "size")
    assert list(metrics(tmp_path / "out")["systems"]) == ["size", "idt", "tsn"]
    assert runs(stubs) == {"size": 1, "idt": 1, "tsn": 1, "i3d": 0}


def test_the_cheapest_come_first(go, stubs):
    order = []
    for stub in stubs.values():
        stub.runs = order
    go()
    assert [job.split("-")[1] for job in order] == ["size", "idt", "tsn", "i3d"]


def test_settings_are_recorded_before_the_first_system_is_tested(go, stubs, tmp_path):
    stubs["size"].error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        go()
    recorded = json.loads((tmp_path / "out/settings.json").read_text())
    assert set(recorded["systems"]) == set(stubs)
    assert not list((tmp_path / "out").glob("system-*"))


def test_other_settings_are_another_run_and_the_page_says_so(go, stubs, tmp_path):
    go("tsn")
    go("tsn", epochs=3)
    assert runs(stubs)["tsn"] == 2
    assert metrics(tmp_path / "out")["systems"]["tsn"]["settings_tried"] == 2
    assert "2 settings of tsn have been tested" in (tmp_path / "out/index.html").read_text()
    go("tsn")
    assert runs(stubs)["tsn"] == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FormatError("a file is damaged"), "failed"),
        (ZeroDivisionError("a defect"), "failed"),
        (OSError(5, "a cable is loose"), "failed"),
        (NotAvailableError("it has no weights"), "unavailable"),
    ],
)
def test_a_system_that_fails_stops_no_other(go, stubs, tmp_path, error, kind):
    stubs["idt"].error = error
    found = go()
    assert runs(stubs) == dict.fromkeys(stubs, 1)
    assert set(found.accuracies) == {"size", "tsn", "i3d"}
    assert found.failed == (("idt",) if kind == "failed" else ())
    said = metrics(tmp_path / "out")["not_run"]["idt"]
    assert said["kind"] == kind
    assert str(error) in said["reason"]
    assert str(error).replace("[Errno 5] ", "") in (tmp_path / "out/index.html").read_text()
    stubs["idt"].error = None  # repaired: it is tried again, the others are not
    assert go().not_run == {}
    assert runs(stubs) == {"size": 1, "idt": 2, "tsn": 1, "i3d": 1}


def test_a_system_that_cannot_be_prepared_stops_no_other(go, stubs, tmp_path):
    def broken(on):
        raise ParameterError("backbone is 'x'")

    SYSTEMS["idt"] = System("classical", "broken", "", ("trajectories",), 1, broken)
    found = go()
    assert found.failed == ("idt",)
    assert "backbone is 'x'" in found.not_run["idt"]


@pytest.mark.parametrize("error", [RunStoppedError("the disk is full"), OSError(28, "full")])
def test_a_full_disk_stops_the_run(go, stubs, error):
    stubs["tsn"].error = error
    with pytest.raises(type(error)):
        go()
    assert runs(stubs)["i3d"] == 0


class Clock:
    """Time that passes when a stub says so."""

    def __init__(self):
        self.now = 100.0

    def module(self):
        return SimpleNamespace(monotonic=lambda: self.now, perf_counter=lambda: self.now)


@pytest.fixture
def clock(monkeypatch, stubs):
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock.module())

    def passes(seconds):
        def run(duration):
            clock.now += seconds

        return SimpleNamespace(sleep=run)

    clock.passes = passes
    monkeypatch.setattr("tests.helpers.systems.time", passes(600))
    return clock


def test_what_does_not_fit_by_its_multiply_adds_is_left_out(go, stubs, clock, tmp_path):
    found = go(hours=1)
    # Ten minutes each; i3d has ten times the work of tsn, and half an hour is left.
    assert set(found.accuracies) == {"size", "idt", "tsn"}
    assert metrics(tmp_path / "out")["not_run"]["i3d"]["kind"] == "budget"
    assert runs(stubs)["i3d"] == 0
    assert found.failed == ()
    assert "i3d" in go(hours=3).accuracies


def test_an_interrupted_system_is_estimated_by_what_is_done_of_it(go, stubs, clock):
    stubs["tsn"].steps = 12
    found = go("tsn", hours=0.5)  # no estimate, and steps of a stub are not asked for
    assert "tsn" in found.accuracies
    stubs["i3d"].steps = 12

    def interrupted(self, share):
        measure.Meter._write(self, {**self.read(), "share": share})
        if share >= 0.5:
            raise KeyboardInterrupt

    with patch.object(measure.Meter, "finished", interrupted), pytest.raises(KeyboardInterrupt):
        go("i3d")
    assert "i3d" in go("i3d", hours=0.9).not_run  # an hour is left of it
    assert "i3d" in go("i3d", hours=1.1).accuracies


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf")])
def test_hours_out_of_range_are_refused_before_anything_is_written(go, tmp_path, hours):
    with pytest.raises(ParameterError, match="hours is"):
        go(hours=hours)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": ["warp-drive"]}, "'warp-drive' is no system"),
        ({"systems": []}, "no system is given"),
        ({"weights": {"warp-drive": "none"}}, "warp-drive"),
        ({"weights": {"tsn": "nowhere/x.pth"}}, "does not exist"),
        ({"epochs": 0}, "epochs is 0"),
        ({"recipe": "best"}, "recipe is 'best'"),
        ({"flow_preset": "best"}, "preset is 'best'"),
        ({"weights_in_fusion": (0, 0, 0)}, "weights_in_fusion"),
        ({"colour": 1}, "'colour' is not an option"),
        ({"flow": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(stubs, tmp_path, options, message):
    dataset, protocol = made_up()
    systems = options.pop("systems", ["all"])
    with pytest.raises((ParameterError, FormatError), match=message):
        compare(dataset, systems, tmp_path / "out", protocol, **options)
    assert not (tmp_path / "out").exists()
    assert sum(runs(stubs).values()) == 0


def test_a_corrected_test_label_changes_the_accuracy_and_runs_nothing(stubs, tmp_path):
    dataset, protocol = made_up(splits=1)
    first = compare(dataset, ["idt"], tmp_path, protocol)
    (split,) = protocol.splits
    labels = dict(protocol.labels) | dict.fromkeys(split.test, "class000")
    other = type(protocol)(protocol.name, protocol.classes, protocol.splits, labels)
    second = compare(dataset, ["idt"], tmp_path, other)
    assert len(stubs["idt"].runs) == 1
    assert first.accuracies["idt"] != second.accuracies["idt"]


def test_a_corrected_training_label_runs_the_system_again(stubs, tmp_path):
    dataset, protocol = made_up(splits=1)
    compare(dataset, ["idt"], tmp_path, protocol)
    (split,) = protocol.splits
    labels = dict(protocol.labels) | {split.train[0]: "class002"}
    other = type(protocol)(protocol.name, protocol.classes, protocol.splits, labels)
    compare(dataset, ["idt"], tmp_path, other)
    assert len(stubs["idt"].runs) == 2


def test_times_are_kept_apart(go, stubs, tmp_path):
    stubs["tsn"].pause = 0.01
    go()
    measured = json.loads((tmp_path / "out/measurements.json").read_text())
    assert measured["systems"]["tsn"]["seconds"]["training"] >= 0.01
    assert measured["systems"]["tsn"]["disk"] > 0
    assert "seconds" not in (tmp_path / "out/metrics.json").read_text()
