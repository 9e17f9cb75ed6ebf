"""Write pages of detected intervals: a film strip and a time line per class for each video."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowpipe.classify.detection import Detection
from flowpipe.datasets.intervals import Interval
from flowpipe.report.html import data_uri, page_environment, plain
from flowpipe.runner.atomic import write_atomic

_MOST_CLASSES = 24
_FOUND, _TRUE, _CURVE = "#2f74b5", "#e2a03f", "#1f2933"


@dataclass(frozen=True, eq=False)
class VideoLine:
    """What was found in a video.

    Attributes
    ----------
    name
        Of the video.
    times
        (T,) seconds of the steps.
    end
        Its end in seconds.
    scores
        (T, classes) probabilities.
    found
        The intervals.
    true
        Intervals that are known, if any are.
    strip
        A JPEG of frames at equal times, or None.
    """

    name: str
    times: NDArray[np.float64]
    end: float
    scores: NDArray[np.floating]
    found: Sequence[Detection]
    true: Sequence[Interval] = ()
    strip: bytes | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes
    ----------
    title
        Its title.
    head
        Names of the columns.
    rows
        A name, and the texts of the other columns.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class DetectionPage:
    """The content of a page.

    Attributes
    ----------
    title, about
        Title of the page, and a line below it.
    classes
        Class names, in the order of the scores.
    videos
        What was found.
    left_out
        Number of other videos.
    numbers
        Names, values from 0 to 1, and explanations of the main results.
    tables, notes, parameters
        Other results; what the reader should know; parameters by stage.
    """

    title: str
    about: str
    classes: Sequence[str]
    videos: Sequence[VideoLine]
    left_out: int = 0
    numbers: Sequence[tuple[str, float, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_detection_page(path: Path, content: DetectionPage, root: Path) -> None:
    """Write the page atomically, one self-contained HTML file.

    Parameters
    ----------
    path, root
        The HTML file, and the output folder.
    content
        What it shows.
    """
    videos = [
        {
            "name": video.name,
            "strip": None if video.strip is None else data_uri(video.strip, "image/jpeg"),
            "line": data_uri(draw_line(video, content.classes), "image/svg+xml"),
            "rows": video.found,
        }
        for video in content.videos
    ]
    text = (
        page_environment()
        .get_template("detection.html.j2")
        .render(
            title=content.title,
            about=content.about,
            numbers=content.numbers,
            tables=content.tables,
            notes=content.notes,
            parameters=content.parameters,
            videos=videos,
            has_true=any(video.true for video in content.videos),
            left_out=content.left_out,
        )
    )
    write_atomic(path, text.encode(), root)


def draw_line(video: VideoLine, classes: Sequence[str]) -> bytes:
    """Draw a time line per class as SVG: the probability, what was found, and what is true.

    Classes of which nothing was found and nothing is true are left out, unless there is none else.
    """
    named = {each.label for each in video.found} | {each.label for each in video.true}
    best = video.scores.max(axis=0, initial=0.0)
    order = sorted(range(len(classes)), key=lambda i: (classes[i] not in named, -best[i]))
    count = max(sum(label in named for label in classes), 1)
    rows = sorted(order[: min(count, _MOST_CLASSES)])
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "flowpipe"}):
        figure = Figure(figsize=(10, 0.45 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        edges = np.append(video.times, video.end)
        for place, row in enumerate(rows):
            base = len(rows) - 1 - place
            for each in (each for each in video.true if each.label == classes[row]):
                width = each.end - each.start
                axes.barh(base + 0.05, width, 0.14, each.start, color=_TRUE, hatch="///", lw=0)
            for found in (each for each in video.found if each.label == classes[row]):
                axes.barh(base + 0.22, found.end - found.start, 0.14, found.start, color=_FOUND)
            if len(video.times):
                curve = base + 0.32 + 0.5 * video.scores[:, row]
                axes.stairs(curve, edges, baseline=None, color=_CURVE, linewidth=0.9)
        names = [plain(classes[row])[:28] for row in rows]
        axes.set_yticks([len(rows) - 0.6 - place for place in range(len(rows))], names, fontsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_xlim(0, max(video.end, 1e-6))
        axes.set_ylim(-0.1, len(rows))
        axes.set_xlabel("seconds", fontsize=8)
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
