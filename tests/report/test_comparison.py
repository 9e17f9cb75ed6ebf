"""The page of a comparison: what is on it, and that hostile names do nothing."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from flowpipe.classify.comparison import Member, statistics
from flowpipe.classify.paired import protocol_tests
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores
from flowpipe.datasets.base import Split
from flowpipe.report.comparison import NotRun, Page, Row, SharedRow, big, render_comparison, size
from flowpipe.report.comparison_plots import STYLES
from tests.helpers.systems import drawn_scores
from tests.report.test_html import HOSTILE, PNG

GROUPS = {group: f"the {group}" for group in STYLES}
VOID = {"meta", "img", "br"}


def page(names=("a", "b", "c"), clips=12, classes=("hug", "kick"), **changes) -> Page:
    labels = {
        f"{name}": classes[number % len(classes)] for number, name in enumerate(clip_names(clips))
    }
    protocol = Protocol("official", tuple(classes), (Split("one", (), tuple(labels)),), labels)
    groups = dict(zip(names, ("classical", "2d", "control", *["3d"] * len(names)), strict=False))

    def read(stream: str, seed: int) -> Scores:
        return drawn_scores(protocol, seed, 0.6)

    members = {
        name: Member(
            groups[name],
            {"rgb": 1.0, "flow": 1.5} if groups[name] == "2d" else {"x": 1.0},
            lambda stream, seed=seed: read(stream, seed),
        )
        for seed, name in enumerate(names)
    }
    rows = {
        name: Row(
            groups[name], f"title of {name}", "a paper", {"epochs": 3}, own={"training": 60.0},
            shared=30.0, per_clip=0.5, disk=2_000_000,
        )
        for name in names
    }  # fmt: skip
    values = {"title": "made up", "protocol": "official", "rows": rows, "groups": GROUPS}
    values["statistics"] = statistics(members, protocol_tests(protocol))
    return Page(**{**values, **changes})


def clip_names(count):
    return [count] if isinstance(count, str) else [f"hug/{i}" for i in range(count)]


@pytest.fixture(autouse=True)
def figures(request, monkeypatch):
    """Draw figures only where they are looked at: they take most of the time."""
    if "figure" not in request.node.name and "hostile" not in request.node.name:
        monkeypatch.setattr("flowpipe.report.comparison.draw_accuracies", lambda *_: b"")
        monkeypatch.setattr("flowpipe.report.comparison.draw_costs", lambda *_: [])


class Checked(HTMLParser):
    """Check that elements are closed, and gather their attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.targets.add(value or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text: str) -> Checked:
    parser = Checked()
    parser.feed(text)
    assert parser.open == []
    assert "script" not in parser.tags
    for link in parser.links:
        assert link.startswith(("#", "data:"))
    return parser


def test_the_page_is_whole_and_needs_nothing_from_outside():
    parser = checked(render_comparison(page()))
    pairs = [link for link in parser.links if link.startswith("#pair-")]
    assert sorted(set(pairs)) == ["#pair-1-2", "#pair-1-3", "#pair-2-3"]
    assert {link.removeprefix("#") for link in parser.links if link[0] == "#"} <= parser.targets


def test_accuracies_and_pairs_are_those_of_the_statistics():
    made = page()
    text = " ".join(checked(render_comparison(made)).text)
    found = made.statistics
    for name in "ab":
        accuracy = found.systems[name].whole.accuracy.accuracy
        assert f"{100 * accuracy.value:.1f}" in text
        assert f"{100 * accuracy.low:.1f} \u2013 {100 * accuracy.high:.1f}" in text
    pair = found.pairs["a", "b"]
    assert f"differ on {pair.differ} of 12 tests" in text
    assert f"a alone right: {pair.first_only}" in text


def test_clips_that_all_miss_are_shown_with_a_picture():
    made = page(picture=lambda name: PNG)
    missed = made.statistics.missed_by_all()
    assert len(missed)
    parser = checked(render_comparison(made))
    pictures = [link for link in parser.links if link.startswith("data:image/png")]
    assert len(pictures) == len(missed)


def test_what_was_not_run_and_what_it_cost():
    made = page(
        not_run=[NotRun("tea", "2d", "unavailable", "it has no weights")],
        shared=[SharedRow("flow-1", 90.0, 5_000, 7200.0)],
        notes=["one clip is missing"],
        machine={"computer": "a toaster"},
    )
    text = " ".join(" ".join(checked(render_comparison(made)).text).split())
    assert "tea not available: it has no weights" in text
    assert "flow-1 1 min 30 s 5 kB 2.0 Wh" in text
    assert "one clip is missing" in text
    assert "a toaster" in text
    assert "does not tell its energy" not in text
    assert "does not tell its energy" in render_comparison(page())


def test_a_page_without_results_says_what_is_waiting():
    waiting = NotRun("tsn", "2d", "waiting", "it is yet to be run")
    text = render_comparison(page(names=(), rows={}, not_run=[waiting]))
    checked(text)
    assert "it is yet to be run" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name):
    made = page(
        names=(name, "b", "c"),
        clips=name,
        classes=(name, "kick"),
        title=name,
        notes=[name],
        not_run=[NotRun(name, "2d", "failed", name)],
        machine={name: name},
    )
    text = render_comparison(made)
    parser = checked(text)
    assert not parser.tags & {"script", "iframe", "object"}
    assert "\u202e" not in text
    assert "49" not in re.findall(r"\{\{.*?\}\}", text)


def test_figures_are_svg_with_a_shape_per_group():
    parser = checked(render_comparison(page()))
    figures = [link for link in parser.links if link.startswith("data:image/svg")]
    assert len(figures) == 3
    for figure in figures:
        ElementTree.fromstring(base64.b64decode(figure.partition(",")[2]))
    assert len({marker for _, marker, _ in STYLES.values()}) == len(STYLES)
    assert len({colour for colour, _, _ in STYLES.values()}) == len(STYLES)


def test_the_same_results_give_the_same_page_and_figures():
    assert render_comparison(page()) == render_comparison(page())


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (2_237_000, "2.24 M"), (5.1e9, "5.1 G")]
)
def test_numbers_are_short(number, text):
    assert big(number) == text


def test_missing_numbers_and_sizes():
    assert big(None) == "\u2013"
    assert (size(12), size(2_500_000)) == ("12 B", "2.5 MB")


def test_of_many_systems_the_clips_of_pairs_are_left_out(monkeypatch):
    assert "taken by" in render_comparison(page(clips=40))
    monkeypatch.setattr("flowpipe.report.comparison._MOST_PAIRS", 2)
    assert "taken by" not in render_comparison(page(clips=40))
