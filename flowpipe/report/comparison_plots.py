"""Draw the figures of a comparison: accuracies with intervals, and accuracy against cost.

Groups differ in colour and in shape; the colours are those of Okabe and Ito, which people with any
kind of colour blindness tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullLocator

from flowpipe.classify.comparison import Statistics
from flowpipe.report.html import plain

if TYPE_CHECKING:
    from flowpipe.report.comparison import Row

STYLES: Mapping[str, tuple[str, str, str]] = {
    "control": ("#000000", "X", "✖"),
    "classical": ("#E69F00", "s", "■"),
    "frozen": ("#009E73", "D", "◆"),
    "2d": ("#0072B2", "o", "●"),
    "3d": ("#D55E00", "^", "▲"),
    "transformers": ("#CC79A7", "P", "✚"),
}
"""Colour, matplotlib's marker, and the character of each group."""
_GREY, _GRID = "#616e7c", "#e4e8ec"
_WIDTH = 4.7
"""Inches, the width of a telephone at 72 dpi, so that text does not shrink there."""


def draw_accuracies(found: Statistics, rows: Mapping[str, Row], groups: Mapping[str, str]) -> bytes:
    """Draw the accuracy of each system with its interval, its streams, and the sum with idt."""
    names = [
        name
        for group in groups
        for name in sorted(
            (n for n in found.systems if rows[n].group == group),
            key=lambda n: found.systems[n].whole.accuracy.accuracy.value,
        )
    ]
    with _figure(1.6 + 0.27 * len(names)) as (figure, buffer):
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            colour, marker, _ = STYLES[rows[name].group]
            result = found.systems[name]
            value = result.whole.accuracy.accuracy
            axes.plot([100 * value.low, 100 * value.high], [place, place], color=colour, lw=1.6)
            axes.plot(100 * value.value, place, marker, color=colour, ms=7)
            if len(result.streams) > 1:
                for stream, each in result.streams.items():
                    at = 100 * each.accuracy.accuracy.value
                    axes.plot(at, place, marker, mfc="white", color=colour, ms=4.5)
                    axes.annotate(
                        stream[0], (at, place), (0, 3), textcoords="offset points", fontsize=5.5,
                        color=_GREY, ha="center",
                    )  # fmt: skip
            if result.with_partner is not None:
                at = 100 * result.with_partner.accuracy.accuracy.value
                axes.plot(at, place, "|", color="#000000", ms=11, mew=1.6)
        axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8.5)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.axvline(100 / len(found.tests.classes), color=_GREY, lw=0.8, ls=":")
        axes.set_xlim(-1, 101)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel("accuracy in %, 95 % interval; dotted: chance", fontsize=8.5)
        _clean(axes)
        extra = [
            Line2D([], [], color="#000000", marker="|", ls="", ms=10, mew=1.6, label="with idt")
        ]
        _legend(figure, groups, {rows[name].group for name in names}, extra)
    return buffer.getvalue()


def draw_costs(
    found: Statistics, rows: Mapping[str, Row], groups: Mapping[str, str]
) -> list[bytes]:
    """Draw accuracy against the time of everything, and against the time to label a clip."""
    panels: list[tuple[str, Callable[[Row], float | None]]] = [
        ("hours for all splits, with shared stages", lambda row: row.seconds / 3600),
        ("seconds to label a clip, from the video", lambda row: row.per_clip),
    ]
    return [_draw_cost(found, rows, groups, label, cost) for label, cost in panels]


def _draw_cost(
    found: Statistics,
    rows: Mapping[str, Row],
    groups: Mapping[str, str],
    label: str,
    cost: Callable[[Row], float | None],
) -> bytes:
    costs = {name: cost(rows[name]) or 0.0 for name in found.systems}
    with _figure(4.2) as (figure, buffer):
        axes = figure.add_subplot()
        drawn = [name for name in found.systems if costs[name] > 0]
        points = []
        for name in drawn:
            colour, marker, _ = STYLES[rows[name].group]
            value = found.systems[name].whole.accuracy.accuracy
            axes.plot(
                [costs[name]] * 2,
                [100 * value.low, 100 * value.high],
                color=colour,
                lw=0.8,
                alpha=0.5,
            )
            axes.plot(costs[name], 100 * value.value, marker, color=colour, ms=7)
            points.append((costs[name], 100 * value.value, name))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-3, 103)
        if points:
            least, most = min(points)[0], max(points)[0]
            axes.set_xlim(least / 2, most * 6)  # names are written to the right
        _write_names(axes, points)
        axes.set_xlabel(label, fontsize=8.5)
        axes.set_ylabel("accuracy in %, with 95 % interval", fontsize=8.5)
        _clean(axes)
        _legend(figure, groups, {rows[name].group for name in drawn}, [])
    return buffer.getvalue()


def _write_names(axes: Any, points: list[tuple[float, float, str]]) -> None:
    """Write names beside points, each moved down until it covers no other."""
    taken: list[tuple[float, float]] = []
    for x, y, name in sorted(points, key=lambda point: -point[1]):
        place = y
        while any(abs(place - other) < 3.4 and 0.25 < x / at < 4 for at, other in taken):
            place -= 0.6
        taken.append((x, place))
        text = axes.annotate(
            plain(name), (x, place), (6, 0), textcoords="offset points", fontsize=7.5, va="center",
            color="#1f2933", path_effects=[withStroke(linewidth=2, foreground="white")], zorder=5,
        )  # fmt: skip
        text.set_parse_math(False)


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Yield a figure, and the buffer that it is written to at the end, as SVG."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "flowpipe"}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, buffer
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})


def _clean(axes: Any) -> None:
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _legend(
    figure: Figure, groups: Mapping[str, str], shown: set[str], extra: list[Line2D]
) -> None:
    handles = [
        Line2D([], [], color=STYLES[group][0], marker=STYLES[group][1], ls="", label=title)
        for group, title in groups.items()
        if group in shown
    ]
    figure.legend(
        handles=[*handles, *extra], loc="outside upper center", ncols=2, fontsize=8, frameon=False
    )
