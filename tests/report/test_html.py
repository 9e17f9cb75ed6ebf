from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from flowpipe.classify.metrics import Mistake, evaluate
from flowpipe.classify.scores import Scores, SplitScores
from flowpipe.errors import ParameterError
from flowpipe.report.curves import draw_training
from flowpipe.report.html import (
    Results,
    Row,
    draw_confusion,
    duration,
    most_confused,
    percent,
    plain,
    render,
    write_report,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1) //",
    "{{ 7 * 7 }}{% raw %}",
    "</title><script>",
    "$\\frac{$",
    "javascript:alert(1)",
    "\u202eevil\u0000\x1b[31m\udcff",
]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)


def metrics_of(classes, splits: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(splits):
        labels = np.arange(3 * len(classes)) % len(classes)
        table = rng.normal(size=(len(labels), len(classes))).astype(np.float32)
        names = tuple(f"clip{i}" for i in range(len(labels)))
        parts.append(SplitScores(f"split{number}", names, labels, table))
    return evaluate(Scores(tuple(classes), tuple(parts)))


def results_of(classes=("hug", "kick", "point"), **changes) -> Results:
    metrics = metrics_of(classes)
    values = {
        "title": "made up",
        "metrics": metrics,
        "protocol": "leave-one-group-out",
        "rows": [Row("hog alone", metrics)],
        "wrong": [Mistake("hug/1", "split0", "hug", "kick", 0.25)],
        "picture": lambda name: PNG,
        "notes": ["1 clip has no trajectories"],
        "parameters": {"encode": {"gaussians": 256, "descriptors": ("hog", "hof")}},
        "timings": {"encode": 61.2, "classify": 3.0},
        "environment": {"flowpipe": "1"},
    }
    return Results(**{**values, **changes})


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_it_says_everything():
    results = results_of()
    text = Page(render(results)).text
    found = results.metrics
    for expected in (
        f"{100 * found.accuracy.value:.1f} %",
        "18 tests of clips of 3 classes",
        "leave-one-group-out",
        "chance is 33.3 %",
        "1 clip has no trajectories",
        "hog alone",
        "1 of 18",
        "hug taken for kick",
        "gaussians 256",
        "descriptors hog, hof",
        "encode 1 min 01 s",
        "all 1 min 04 s",
    ):
        assert expected in text


def test_it_needs_nothing_besides_itself():
    page = Page(render(results_of()))
    sources = [attributes["src"] for _, attributes in page.tags if "src" in attributes]
    assert sources
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", str(source)) for source in sources)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form", "a"}
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in str(policy)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(text):
    results = results_of(
        classes=(text, "kick"),
        title=text,
        protocol=text,
        rows=[Row(text, metrics_of((text, "kick")))],
        wrong=[Mistake(text, text, text, text, 0.1)],
        notes=[text],
        parameters={text: {text: text, "list": [text]}},
        timings={text: 1.0},
        environment={text: text},
    )
    harmless = Page(render(results_of(
        classes=("name", "kick"), title="name", protocol="name",
        rows=[Row("name", metrics_of(("name", "kick")))],
        wrong=[Mistake("name", "name", "name", "name", 0.1)], notes=["name"],
        parameters={"name": {"name": "name", "list": ["name"]}}, timings={"name": 1.0},
        environment={"name": "name"},
    )))  # fmt: skip
    page = Page(render(results))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(a) for _, a in page.tags] == [set(a) for _, a in harmless.tags]
    assert page.text.count(" ".join(plain(text).split())) >= 10


def test_names_without_control_characters_are_kept():
    assert plain("hug/\u00e9 \u4e2d 1.avi") == "hug/\u00e9 \u4e2d 1.avi"
    assert plain("a\u202eb\udcff\n") == "a\ufffdb\ufffd\ufffd"


def test_the_page_is_written_in_utf8(tmp_path):
    write_report(tmp_path / "report.html", results_of(title="\u4e2d\udcff"), tmp_path)
    assert "\u4e2d\ufffd" in (tmp_path / "report.html").read_text("utf-8")


def test_the_same_results_give_the_same_page():
    assert render(results_of()) == render(results_of())


@pytest.mark.parametrize("count", [1, 2, 9, pytest.param(40, marks=pytest.mark.slow)])
def test_any_number_of_classes(count):
    classes = [f"class {i}" for i in range(count)]
    svg = draw_confusion(metrics_of(classes).confusion, classes)
    assert svg.startswith(b"<?xml")
    assert render(results_of(classes, rows=(), wrong=(), notes=()))


def test_nothing_wrong_and_a_single_split():
    page = Page(render(results_of(wrong=(), metrics=metrics_of(("a", "b"), splits=1)))).text
    assert "Wrong clips None." in page
    assert "nan" not in page.lower()


def test_a_class_that_was_never_tested():
    part = SplitScores("1", ("x",), np.array([0]), np.array([[1.0, 0.0]], np.float32))
    page = Page(render(results_of(metrics=evaluate(Scores(("a", "b"), (part,))), rows=())))
    assert "b 0 not tested \u2013 \u2013" in page.text


def test_the_surest_mistakes_come_first_and_not_all_are_shown():
    wrong = [Mistake(f"clip{i}", "1", "a", "b", i / 10) for i in range(300)]
    text = render(results_of(wrong=wrong))
    assert text.count("<figure>") == 200
    assert text.index("clip299<") < text.index("clip250<")
    assert "clip50<" not in text
    assert "300 of 18, the surest mistake first; the first 200 are shown" in Page(text).text


def test_pictures_are_asked_for_the_clips_that_are_shown():
    asked = []

    def picture(name):
        asked.append(name)
        return PNG if name == "clip299" else None

    wrong = [Mistake(f"clip{i}", "1", "a", "b", i / 10) for i in range(300)]
    text = render(results_of(wrong=wrong, picture=picture))
    assert text.count("data:image/png") == 1
    assert asked == [f"clip{i}" for i in range(299, 99, -1)]


def test_a_picture_must_be_a_png_or_a_jpeg():
    with pytest.raises(ParameterError, match="the picture of 'hug/1' is neither a PNG nor a JPEG"):
        render(results_of(picture=lambda name: b"<svg onload=alert(1)>"))


def test_most_confused():
    confusion = np.array([[5, 3, 0], [1, 9, 0], [0, 0, 0]])
    assert most_confused(confusion, ["a", "b", "c"]) == [("a", "b", 3, 3 / 8), ("b", "a", 1, 0.1)]


def test_numbers_as_a_reader_says_them():
    assert [duration(s) for s in (0.04, 59.94, 61.2, 7325)] == [
        "0.0 s", "59.9 s", "1 min 01 s", "2 h 02 min",
    ]  # fmt: skip
    assert (percent(0.98333), percent(math.nan)) == ("98.3", "\u2013")


def test_training_is_drawn_where_networks_were_trained():
    curves = {"rgb": [[(2.0, 0.2), (1.0, 0.6)], [(1.5, 0.4)]], "flow": [[(1.8, 0.3)]]}
    page = Page(render(results_of(training=curves)))
    assert "Training" in page.text
    (source,) = (a["src"] for tag, a in page.tags if tag == "img" and "Loss" in (a["alt"] or ""))
    drawing = base64.b64decode(source.partition(",")[2]).decode()
    assert drawing.count('<g id="line2d_') > 6
    assert draw_training(curves) == draw_training(curves)
    assert "Training" not in Page(render(results_of())).text
