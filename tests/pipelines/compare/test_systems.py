"""The table of systems: what each depends on, and what it does without weights."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.pipelines.compare.controls import nearest
from flowpipe.pipelines.compare.measure import Budget, Meter, OverBudgetError, _Energy
from flowpipe.pipelines.compare.run_classical import shuffled_labels
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.pipelines.compare.shared import Shared
from flowpipe.pipelines.compare.system import GROUPS, Comparison, NotAvailableError
from flowpipe.pipelines.compare.systems import SYSTEMS, chosen
from flowpipe.pipelines.compare.weights import check_weights, parse_weights
from flowpipe.runner.pool import Workers
from flowpipe.training.runtime import TrainingRuntime
from tests.helpers.clips import environment
from tests.helpers.systems import made_up


def comparison(tmp_path, weights=None, **options) -> Comparison:
    dataset, protocol = made_up()
    return Comparison(
        dataset, protocol, tmp_path, Settings(**options), weights or {}, TrainingRuntime("cpu"),
        Workers(jobs=0), Budget(), Shared(),
    )  # fmt: skip


# Their recipes begin with files, and torchvision has no weights for them.
FILES_ONLY = {
    "tea", "eco-lite", "eco-full", "c3d", "c3d-svm", "clip-vit-b-16", "slowfast-r50-8x8",
    "slowfast-r50-4x16", "deepvideo-single", "deepvideo-early", "deepvideo-late", "deepvideo-slow",
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_has_settings_or_says_which_weights_it_lacks(name, tmp_path):
    system = SYSTEMS[name]
    if name in FILES_ONLY:
        with pytest.raises(NotAvailableError, match="--weights"):
            system.prepare(comparison(tmp_path))
        return
    prepared = system.prepare(comparison(tmp_path))
    assert json.loads(json.dumps(prepared.settings))
    assert system.group in GROUPS
    assert system.title


@pytest.mark.parametrize("name", SYSTEMS)
def test_random_weights_are_for_networks_that_are_trained(name, tmp_path):
    on = comparison(tmp_path, {"all": "none"})
    if SYSTEMS[name].group == "frozen" or name in ("one-frame", "tdd"):
        with pytest.raises(NotAvailableError, match="not trained here"):
            SYSTEMS[name].prepare(on)
    else:
        SYSTEMS[name].prepare(on)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n, s in SYSTEMS.items() if s.group in ("2d", "3d", "transformers")]
)
def test_every_network_takes_what_its_recipe_gives_it(name, tmp_path):
    for recipe in ("small", "scratch", "published"):
        on = comparison(tmp_path, {"all": "default"}, recipe=recipe)
        cost = SYSTEMS[name].prepare(on).cost()
        assert cost is not None
        assert min(cost.parameters, cost.multiply_adds, cost.work) > 0


def test_the_settings_of_one_run_are_those_of_all(tmp_path):
    on = comparison(tmp_path, {"all": "none"}, epochs=3, backbone="resnet18", seed=5)
    for name in ("tsn", "tsm", "two-stream"):
        for stream in SYSTEMS[name].prepare(on).settings["streams"].values():
            assert stream["training"]["epochs"] == 3
            assert stream["training"]["seed"] == 5
            assert stream["network"]["backbone"] == "resnet18"


def test_from_scratch_no_weights_are_asked_for(tmp_path):
    on = comparison(tmp_path, recipe="scratch")
    for name in ("tsn", "tsm", "eco-lite", "r3d-18"):
        for stream in SYSTEMS[name].prepare(on).settings["streams"].values():
            assert stream["weights"] == "none"
            assert stream["network"]["batch_norm"] == "train"
    given = comparison(tmp_path, {"resnet18": "default"}, recipe="scratch")
    streams = SYSTEMS["tsm"].prepare(given).settings["streams"]
    assert {each["weights"] for each in streams.values()} == {"default"}


def test_from_scratch_a_snippet_of_flow_spans_ten_frames(tmp_path):
    on = comparison(tmp_path, recipe="scratch")
    for name in ("two-stream", "tsn", "trn"):
        clip = SYSTEMS[name].prepare(on).settings["streams"]["flow"]["clip"]
        assert clip["length"] * clip["frame_stride"] == 10
        assert clip["subtract_mean"]


def test_streams_that_are_not_wanted_are_not_run(tmp_path):
    on = comparison(tmp_path, {"all": "none"}, streams=("flow",))
    whole = comparison(tmp_path, {"all": "none"})
    for name in ("tsn", "two-stream"):
        prepared = SYSTEMS[name].prepare(on)
        assert prepared.streams == ("flow",)
        wanted = SYSTEMS[name].prepare(whole).settings["streams"]["flow"]
        assert prepared.settings["streams"] == {"flow": wanted}
    with pytest.raises(NotAvailableError, match="it sees rgb, and --streams is flow"):
        SYSTEMS["i3d"].prepare(on)
    with pytest.raises(ParameterError, match="'depth' is none of rgb, flow"):
        Settings(streams=("flow", "depth"))


def test_weights_are_looked_for_by_system_network_backbone_and_all(tmp_path):
    given = {"all": "none", "mobilenet_v2": "default", "tsn": "IMAGENET1K_V1"}

    def found(name, weights):
        settings = SYSTEMS[name].prepare(comparison(tmp_path, weights)).settings
        return {stream["weights"] for stream in settings["streams"].values()}

    assert found("tsn", given) == {"IMAGENET1K_V1"}
    assert found("two-stream", given) == {"IMAGENET1K_V1"}  # it is a tsn
    assert found("trn", given) == {"default"}
    assert found("i3d", given) == {"none"}


def test_groups_and_names():
    assert set(chosen(["all"])) == set(SYSTEMS)
    assert chosen(["tsn", "classical", "idt"]) == ["dt", "idt", "tsn", "tdd"]
    assert {name for group in GROUPS for name in chosen([group])} == set(SYSTEMS)
    with pytest.raises(ParameterError, match="'tns' is no system"):
        chosen(["tns"])


def test_weights_are_parsed():
    assert parse_weights(["i3d=a=b.pth", "all=none"]) == {"i3d": "a=b.pth", "all": "none"}
    for text in ("i3d", "=x", "i3d="):
        with pytest.raises(ParameterError, match="NAME=FILE"):
            parse_weights([text])
    with pytest.raises(ParameterError, match="twice"):
        parse_weights(["i3d=a", "i3d=b"])
    check_weights({"resnet18": "default"}, SYSTEMS)


def test_shuffled_labels_have_an_order_of_their_own_in_each_split():
    labels = [0, 1, 2, 3] * 6
    orders = [shuffled_labels(labels, seed=0, number=number) for number in range(5)]
    assert len(set(orders)) == 5
    assert all(sorted(order) == sorted(labels) for order in orders)
    assert shuffled_labels(labels, seed=0, number=3) == orders[3]
    assert shuffled_labels(labels, seed=1, number=3) != orders[3]


def test_planning_does_without_torch():
    code = "import sys, flowpipe.pipelines.compare.run as r; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_the_control_of_size_knows_near_clips():
    train = np.array([[1.0, 5], [1.1, 5], [9, 5], [9.1, 5], [1.05, 5]])
    scores = nearest(train, np.array([0, 0, 2, 2, 0]), np.array([[1.0, 5], [9.05, 5]]), 3)
    assert scores.argmax(axis=1).tolist() == [0, 2]
    assert (scores[:, 1] < scores[:, [0, 2]].min(axis=1)).all()


def test_time_is_added_up_over_runs(tmp_path):
    for _ in range(2):
        meter = Meter(tmp_path, "a job", Budget())
        with meter.part("training"):
            pass
    meter.finished(0.25)
    meter.finished(0.1)  # an earlier part that is done again
    meter.uses(tmp_path / "b", tmp_path / "a")
    found = meter.read()
    assert found["share"] == 0.25
    assert found["folders"] == ["a", "b"]
    assert meter.remaining() == pytest.approx(3 * meter.seconds())
    meter.path.write_text("damaged")
    assert meter.remaining() is None


def test_a_budget_is_spent():
    Budget().require(1e9, "all")
    Budget(10).require(None, "something")
    with pytest.raises(OverBudgetError, match="all of it does not fit"):
        Budget(10).require(11, "all of it")
    with pytest.raises(OverBudgetError):
        Budget(0).require(None, "all of it")


def test_energy_is_counted_over_the_end_of_the_counter(tmp_path):
    package = tmp_path / "intel-rapl:0"
    part = tmp_path / "intel-rapl:0:0"  # of the package: counted there already
    for folder in (package, part):
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text("10000000\n")
        (folder / "energy_uj").write_text("9000000\n")
    energy = _Energy(tmp_path)
    (package / "energy_uj").write_text("9500000\n")
    assert energy.joules() == pytest.approx(0.5)
    (package / "energy_uj").write_text("500000\n")
    assert energy.joules() == pytest.approx(1.5)
    assert _Energy(tmp_path / "nothing").joules() is None
