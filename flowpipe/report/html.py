"""The report of a run of recognition: one HTML page that needs nothing besides itself.

Names of files and classes are strangers' text. Jinja escapes them, the page forbids itself scripts
and requests by its own policy, and the drawing of the confusion matrix stands in an image, where
nothing of it can run.
"""

from __future__ import annotations

import base64
import io
import math
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowpipe.classify.metrics import Interval, Metrics
from flowpipe.classify.scores import Scores
from flowpipe.errors import ParameterError
from flowpipe.runner.atomic import write_atomic

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""What a picture begins with."""
_NUMBERED_CLASSES = 24
"""Up to so many classes, the cells of the confusion matrix carry their numbers."""
_WRONG_SHOWN = 200
_CONFUSED_SHOWN = 12


@dataclass(frozen=True)
class Row:
    """A line of the table of descriptors or settings: one configuration and what it reached."""

    name: str
    metrics: Metrics


@dataclass(frozen=True)
class WrongClip:
    """A clip that was taken for another class.

    Attributes
    ----------
    name, split
        Of the clip, and of the split that tested it.
    truth, predicted
        Class names.
    margin
        Score of the predicted class above that of the true one.
    picture
        A PNG or a JPEG, or None.
    """

    name: str
    split: str
    truth: str
    predicted: str
    margin: float
    picture: bytes | None = None

    def __post_init__(self) -> None:
        if self.picture is not None and not self.picture.startswith(tuple(_KINDS)):
            raise ParameterError(f"the picture of {self.name!r} is neither a PNG nor a JPEG")


@dataclass(frozen=True)
class Results:
    """What a report shows.

    Attributes
    ----------
    title
        Of the page.
    metrics
        Of the run as a whole.
    protocol
        How it was tested, such as ``leave-one-group-out``.
    rows
        Configurations to compare: each descriptor alone, DT, words.
    wrong
        Clips that were taken for another class.
    notes
        What the reader should know: clips left out, clips without trajectories.
    parameters
        For each stage, its parameters by name.
    timings
        Seconds of each stage.
    environment
        Versions and the machine, by name.
    """

    title: str
    metrics: Metrics
    protocol: str
    rows: Sequence[Row] = ()
    wrong: Sequence[WrongClip] = ()
    notes: Sequence[str] = ()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def wrong_clips(
    scores: Scores, picture: Callable[[str], bytes | None] = lambda name: None
) -> list[WrongClip]:
    """The clips that were taken for another class, the surest mistake first.

    Parameters
    ----------
    scores
        Of all splits.
    picture
        From a clip's name to a PNG or JPEG, or None; asked only for clips that a report shows.
    """
    found = []
    for part in scores.splits:
        for name, true, predicted, row in zip(
            part.names, part.labels, part.predictions, part.scores, strict=True
        ):
            if true != predicted:
                classes = scores.classes[true], scores.classes[predicted]
                margin = float(row[predicted] - row[true])
                found.append(WrongClip(name, part.split, *classes, margin))
    found.sort(key=lambda clip: -clip.margin)
    shown = [replace(clip, picture=picture(clip.name)) for clip in found[:_WRONG_SHOWN]]
    return shown + found[_WRONG_SHOWN:]


def write_report(path: Path, results: Results, root: Path) -> None:
    """Write the page atomically.

    Parameters
    ----------
    path
        The HTML file.
    results
        What it shows.
    root
        Output folder, for the atomic write.
    """
    write_atomic(path, render(results).encode(), root)


def render(results: Results) -> str:
    """The page as text."""
    metrics = results.metrics
    environment = Environment(
        loader=PackageLoader("flowpipe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, interval=interval, duration=duration, setting=setting, plain=plain
    )
    wrong = sorted(results.wrong, key=lambda clip: -clip.margin)
    return environment.get_template("report.html.j2").render(
        results=results,
        metrics=metrics,
        clips=int(metrics.confusion.sum()),
        chance=_chance(metrics),
        confusion=_data_uri(draw_confusion(metrics.confusion, metrics.classes), "image/svg+xml"),
        classes=_class_rows(metrics),
        confused=most_confused(metrics.confusion, metrics.classes),
        wrong=[(clip, _picture(clip)) for clip in wrong[:_WRONG_SHOWN]],
        total_time=sum(results.timings.values()),
    )


def plain(text: str) -> str:
    """Text without control characters, lone surrogates and marks that turn its direction.

    Each becomes U+FFFD; a name that holds one can be told from one that does not.
    """
    bad = ("Cc", "Cs", "Cf")
    return "".join("\ufffd" if unicodedata.category(each) in bad else each for each in text)


def percent(part: float) -> str:
    """A part of 1 in percent with a decimal, a dash for NaN."""
    return "\u2013" if math.isnan(part) else f"{100 * part:.1f}"


def interval(found: Interval) -> str:
    """The two ends of an interval in percent, nothing where there is none."""
    if math.isnan(found.low):
        return ""
    return f"{percent(found.low)} \u2013 {percent(found.high)}"


def duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def setting(found: Any) -> str:
    """A parameter as text."""
    if isinstance(found, list | tuple):
        return ", ".join(setting(each) for each in found)
    if isinstance(found, bool):
        return "yes" if found else "no"
    return "none" if found is None else plain(str(found))


def most_confused(
    confusion: NDArray[np.int64], classes: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """The largest confusions: true class, predicted class, clips, part of the true class."""
    off = confusion.copy()
    np.fill_diagonal(off, 0)
    totals = confusion.sum(axis=1)
    order = np.argsort(-off, axis=None, kind="stable")[:_CONFUSED_SHOWN]
    pairs = [divmod(int(i), len(classes)) for i in order]
    return [
        (classes[i], classes[j], int(off[i, j]), float(off[i, j] / totals[i]))
        for i, j in pairs
        if off[i, j]
    ]


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """The confusion matrix as SVG, each row as parts of its true class."""
    count = len(classes)
    totals = confusion.sum(axis=1, keepdims=True)
    parts = confusion / np.maximum(totals, 1)
    numbered = count <= _NUMBERED_CLASSES
    side = min(max(3.2, 0.62 * count), 9.0) if numbered else min(max(9.0, 0.13 * count), 16.0)
    size = max(3.5, min(9.0, 72 * side / count * 0.62))
    buffer = io.BytesIO()
    options = matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "flowpipe"})
    with options, warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message=".*Glyph.*")
        figure = Figure(figsize=(side + 1.6, side + 1.2), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        names = [_short(plain(name)) for name in classes]
        axes.set_xticks(range(count), names, rotation=90 if count > 8 else 40, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_parse_math(False)
        if count <= 8:
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
                label.set_rotation_mode("anchor")
        axes.set_xlabel("predicted", fontsize=9)
        axes.set_ylabel("true", fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_color("#cbd2d9")
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e4e8ec", linewidth=0.6 if numbered else 0.2)
        axes.tick_params(which="minor", length=0)
        if numbered:
            for i, j in zip(*np.nonzero(confusion), strict=True):
                colour = "white" if parts[i, j] > 0.55 else "#1f2933"
                axes.text(
                    j, i, str(confusion[i, j]), ha="center", va="center", color=colour,
                    fontsize=min(10.0, size + 1),
                )  # fmt: skip
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _class_rows(metrics: Metrics) -> list[tuple[str, int, float, float]]:
    totals = metrics.confusion.sum(axis=1)
    rows = list(
        zip(
            metrics.classes,
            totals.tolist(),
            metrics.class_accuracy.tolist(),
            metrics.average_precision.tolist(),
            strict=True,
        )
    )
    return sorted(rows, key=lambda row: (math.isnan(row[2]), row[2]))


def _chance(metrics: Metrics) -> float:
    return 1 / max(1, len(metrics.classes))


def _picture(clip: WrongClip) -> str | None:
    if clip.picture is None:
        return None
    kind = next(kind for start, kind in _KINDS.items() if clip.picture.startswith(start))
    return _data_uri(clip.picture, kind)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
