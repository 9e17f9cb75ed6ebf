"""Drawings of networks have every stage, and are well-formed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from flowpipe.cli import main
from flowpipe.models.describe import usual_input
from flowpipe.models.stages import Stage, network_stages
from flowpipe.report.architecture import draw_architecture, draw_model

SVG = "{http://www.w3.org/2000/svg}"


def _texts(drawing: str) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_every_stage_is_drawn_in_its_order():
    texts = _texts(draw_model("tsn", "flow", 101))
    names = [stage.name for stage in network_stages(*usual_input("tsn", "flow"), 101)]
    assert [text for text in texts if text in names] == names
    assert "10 x 3 x 224 x 224" in texts  # five fields of two channels
    assert "3 x 101" in texts


def test_bars_are_shares_of_the_network():
    stages = [Stage("a", "A", (1,), 1, 3_000), Stage("b", "B", (1,), 3, 1_000)]
    root = ElementTree.fromstring(draw_architecture("two", (3, 1, 8, 8), stages))
    bars = [
        int(r.get("width", ""))
        for r in root.iter(f"{SVG}rect")
        if r.get("fill") in ("#0072b2", "#d55e00")
    ]
    assert bars[0] + bars[2] == bars[1] + bars[3] == 70
    assert bars[2] / bars[0] == bars[1] / bars[3] == pytest.approx(3, abs=0.2)


def test_names_are_escaped():
    assert "<b>&" in _texts(draw_architecture("<b>&", (1,), []))


def test_the_command_draws_one_network(tmp_path, capsys):
    path = tmp_path / "new" / "tsm.svg"
    with pytest.raises(SystemExit) as end:
        main(["models", "tsm", "--figure", str(path)])
    assert not end.value.code
    assert path.read_text(encoding="utf-8") == draw_model("tsm")


@pytest.mark.parametrize(
    ("names", "file", "reason"),
    [
        (["tsm", "tsn"], "a.svg", "2 networks are named"),
        ([], "a.svg", "0 networks"),
        (["tsm"], "a.png", r"must end in \.svg"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, capsys, names, file, reason):
    with pytest.raises(SystemExit) as end:
        main(["models", *names, "--figure", str(tmp_path / file)])
    assert end.value.code
    assert re.search(reason, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
