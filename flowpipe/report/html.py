"""Write the report of a classification: one self-contained HTML page.

Names of files and classes are untrusted text. Jinja escapes them, the page forbids scripts and
requests by its content security policy, and the confusion matrix is an SVG in an image element,
where scripts do not run.
"""

from __future__ import annotations

import base64
import io
import math
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowpipe.classify.metrics import Interval, Metrics, Mistake
from flowpipe.errors import ParameterError
from flowpipe.report.curves import Curve, draw_training
from flowpipe.runner.atomic import write_atomic

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""Magic numbers of pictures."""
_NUMBERED_CLASSES = 24
"""Largest number of classes for which the cells of the confusion matrix show numbers."""
_WRONG_SHOWN = 200
_CONFUSED_SHOWN = 12


@dataclass(frozen=True)
class Row:
    """A row of the table of descriptors or settings: a configuration and its metrics."""

    name: str
    metrics: Metrics


def no_picture(name: str) -> bytes | None:
    """Return None: there is no picture of a clip."""
    return None


@dataclass(frozen=True)
class Results:
    """The content of a report.

    Attributes
    ----------
    title
        Title of the page.
    metrics
        Metrics of the run.
    protocol
        Name of the protocol, such as ``leave-one-group-out``.
    rows
        Configurations to compare, such as each descriptor alone.
    wrong
        Misclassified clips.
    picture
        Returns a PNG or JPEG of a clip, or None; called only for the clips that are shown.
    notes
        What the reader should know: clips left out, clips without trajectories.
    parameters
        Parameters of each stage, by name.
    timings
        Seconds that each stage took.
    training
        How the networks of each stream were trained: loss and accuracy of every epoch.
    environment
        Versions and the computer, by name.
    """

    title: str
    metrics: Metrics
    protocol: str
    rows: Sequence[Row] = ()
    wrong: Sequence[Mistake] = ()
    picture: Callable[[str], bytes | None] = no_picture
    notes: Sequence[str] = ()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Sequence[Curve]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(path: Path, results: Results, root: Path) -> None:
    """Write the page atomically.

    Parameters
    ----------
    path
        The HTML file.
    results
        Its content.
    root
        Output folder, for the atomic write.
    """
    write_atomic(path, render(results).encode(), root)


def render(results: Results) -> str:
    """Return the page as text.

    Raises
    ------
    ParameterError
        A picture is neither a PNG nor a JPEG.
    """
    metrics = results.metrics
    environment = page_environment()
    wrong = sorted(results.wrong, key=lambda clip: -clip.margin)
    return environment.get_template("report.html.j2").render(
        results=results,
        metrics=metrics,
        clips=int(metrics.confusion.sum()),
        chance=_chance(metrics),
        confusion=data_uri(draw_confusion(metrics.confusion, metrics.classes), "image/svg+xml"),
        training=(
            data_uri(draw_training(results.training), "image/svg+xml") if results.training else None
        ),
        classes=_class_rows(metrics),
        confused=most_confused(metrics.confusion, metrics.classes),
        wrong=[(clip, picture_uri(clip.name, results.picture)) for clip in wrong[:_WRONG_SHOWN]],
        total_time=sum(results.timings.values()),
    )


def page_environment() -> Environment:
    """Return the templates of the pages, with the filters that all of them use."""
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
    return environment


def plain(text: str) -> str:
    """Replace control characters, lone surrogates and direction marks by U+FFFD."""
    bad = ("Cc", "Cs", "Cf")
    return "".join("\ufffd" if unicodedata.category(each) in bad else each for each in text)


def percent(fraction: float) -> str:
    """Return a fraction in percent with one decimal, a dash for NaN."""
    return "\u2013" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def interval(value: Interval) -> str:
    """Return the ends of an interval in percent, or nothing if there is none."""
    if math.isnan(value.low):
        return ""
    return f"{percent(value.low)} \u2013 {percent(value.high)}"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def setting(value: Any) -> str:
    """Return a parameter as text."""
    if isinstance(value, list | tuple):
        return ", ".join(setting(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else plain(str(value))


def most_confused(
    confusion: NDArray[np.int64], classes: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: true class, predicted class, clips, fraction."""
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
    """Draw the confusion matrix as SVG, each row as fractions of its true class."""
    count = len(classes)
    totals = confusion.sum(axis=1, keepdims=True)
    fractions = confusion / np.maximum(totals, 1)
    numbered = count <= _NUMBERED_CLASSES
    side = min(max(3.2, 0.62 * count), 9.0) if numbered else min(max(9.0, 0.13 * count), 16.0)
    size = max(3.5, min(9.0, 72 * side / count * 0.62))
    buffer = io.BytesIO()
    options = matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "flowpipe"})
    with options, warnings.catch_warnings():
        # Characters that are not in the font are drawn as boxes.
        warnings.filterwarnings("ignore", message=".*Glyph.*")
        figure = Figure(figsize=(side + 1.6, side + 1.2), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
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
                colour = "white" if fractions[i, j] > 0.55 else "#1f2933"
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


def picture_uri(name: str, picture: Callable[[str], bytes | None]) -> str | None:
    """Return the picture of a clip for an image element; None if there is none.

    Raises
    ------
    ParameterError
        It is neither a PNG nor a JPEG.
    """
    data = picture(name)
    if data is None:
        return None
    for start, kind in _KINDS.items():
        if data.startswith(start):
            return data_uri(data, kind)
    raise ParameterError(f"the picture of {name!r} is neither a PNG nor a JPEG")


def data_uri(data: bytes, kind: str) -> str:
    """Return data of a kind, such as ``image/png``, for an element of the page itself."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
