"""Write the page of a comparison: one self-contained HTML file without scripts.

As in :mod:`flowpipe.report.html`, names of files and classes are untrusted text, and the page
forbids scripts and requests. Details of two systems are shown by a link to them (CSS ``:target``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.classify.comparison import Result, Statistics
from flowpipe.classify.paired import Pair, adjusted
from flowpipe.report.comparison_plots import STYLES, draw_accuracies, draw_costs
from flowpipe.report.html import data_uri, no_picture, page_environment, picture_uri
from flowpipe.runner.atomic import write_atomic

_CLIPS_SHOWN = 12
"""Clips listed of each side of a pair."""
_MISSED_SHOWN = 60
_FUSIONS_SHOWN = 12
_MOST_PAIRS = 25
"""Systems up to which clips are listed for every pair."""


@dataclass(frozen=True)
class Row:
    """What the page says of a system, beside its accuracy.

    Attributes
    ----------
    group, title, published
        Its group, what it is, its paper.
    settings
        All that was fixed before it was tested.
    tried
        How many settings of it have been tested in this folder.
    parameters, multiply_adds
        Of its networks, all streams together; multiply-adds of a test clip. None without networks.
    own
        Seconds of each part that is its own.
    shared
        Seconds of the stages that it shares with others.
    per_clip
        Seconds to label a clip, from the video; None if unknown.
    with_training
        Whether tests were measured together with training, so that `per_clip` has extraction only.
    disk
        Bytes of its own folders.
    joules
        Energy of its own parts; None if the machine does not tell.
    """

    group: str
    title: str
    published: str
    settings: Mapping[str, Any]
    tried: int = 1
    parameters: int | None = None
    multiply_adds: int | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    shared: float = 0.0
    per_clip: float | None = None
    with_training: bool = True
    disk: int = 0
    joules: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of the system with all that it needs."""
        return self.shared + sum(self.own.values())


@dataclass(frozen=True)
class SharedRow:
    """A stage that several systems read: its seconds, bytes, and joules if the machine tells."""

    name: str
    seconds: float
    disk: int
    joules: float | None = None


@dataclass(frozen=True)
class NotRun:
    """A system that was asked for and has no results.

    Attributes
    ----------
    name, group
        The system.
    kind
        ``failed``, ``unavailable``, ``budget`` or ``waiting``.
    reason
        Why, in one sentence.
    """

    name: str
    group: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Page:
    """The content of the page.

    Attributes
    ----------
    title
        Title of the page.
    protocol
        Name of the protocol.
    statistics
        Accuracies, fusions, pairs.
    rows
        Of each system with results, by name.
    groups
        Title of each group, in their order.
    not_run
        Systems without results.
    settings
        What is the same for all systems, by name.
    notes
        What the reader should know of the set.
    shared
        Stages that several systems read.
    machine
        What was measured on, by name.
    picture
        Returns a PNG or JPEG of a clip, or None.
    """

    title: str
    protocol: str
    statistics: Statistics
    rows: Mapping[str, Row]
    groups: Mapping[str, str]
    not_run: Sequence[NotRun] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    shared: Sequence[SharedRow] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    picture: Callable[[str], bytes | None] = no_picture


def write_comparison(path: Path, page: Page, root: Path) -> None:
    """Write the page atomically; `root` is the output folder."""
    write_atomic(path, render_comparison(page).encode(), root)


def render_comparison(page: Page) -> str:
    """Return the page as text."""
    found = page.statistics
    names = list(found.systems)
    environment = page_environment()
    environment.filters.update(big=big, size=size)
    missed = found.missed_by_all()
    return environment.get_template("comparison.html.j2").render(
        page=page,
        found=found,
        tests=len(found.tests),
        by_group=[
            (group, title, [name for name in names if page.rows[name].group == group])
            for group, title in page.groups.items()
        ],
        styles=STYLES,
        best=_best(found),
        streams=sorted(
            {
                stream
                for each in found.systems.values()
                for stream in each.streams
                if len(each.streams) > 1
            }
        ),
        accuracies=_image(draw_accuracies(found, page.rows, page.groups)) if names else None,
        costs=[_image(each) for each in draw_costs(found, page.rows, page.groups)] if names else [],
        fusions=found.fusions[:_FUSIONS_SHOWN],
        n_fusions=len(found.fusions),
        numbers={name: number for number, name in enumerate(names, 1)},
        pairs=_pairs(found),
        listed=_listed_pairs(found),
        most_clips=_CLIPS_SHOWN,
        n_missed=len(missed),
        missed=[
            (
                found.tests.names[index],
                found.tests.splits[found.tests.split[index]],
                found.tests.classes[found.tests.labels[index]],
                _taken_for(found, int(index)),
                picture_uri(found.tests.names[index], page.picture),
            )
            for index in missed[:_MISSED_SHOWN]
        ],
        has_energy=any(
            each is not None
            for each in (
                *(row.joules for row in page.rows.values()),
                *(stage.joules for stage in page.shared),
            )
        ),
    )


@dataclass(frozen=True)
class PairDetail:
    """Two systems: how they compare, and the clips that one of them alone got right."""

    first: str
    second: str
    pair: Pair
    adjusted: float
    first_only: Sequence[tuple[str, str]]
    second_only: Sequence[tuple[str, str]]


def _pairs(found: Statistics) -> dict[str, dict[str, tuple[Pair, float, int]]]:
    """Return each pair in both orders: the pair, its adjusted p, and the first's lead in tests."""
    values = adjusted([pair.p for pair in found.pairs.values()])
    table: dict[str, dict[str, tuple[Pair, float, int]]] = {name: {} for name in found.systems}
    for ((first, second), pair), p in zip(found.pairs.items(), values, strict=True):
        lead = pair.first_only - pair.second_only
        table[first][second] = (pair, p, lead)
        table[second][first] = (Pair(pair.second_only, pair.first_only, pair.p), p, -lead)
    return table


def _listed_pairs(found: Statistics) -> list[PairDetail]:
    """Return the pairs with their clips; of many systems, without their clips."""
    values = adjusted([pair.p for pair in found.pairs.values()])
    few = len(found.systems) <= _MOST_PAIRS
    details = []
    for ((first, second), pair), p in zip(found.pairs.items(), values, strict=True):
        one, other = found.systems[first].whole, found.systems[second].whole
        details.append(
            PairDetail(
                first,
                second,
                pair,
                p,
                _only(found, one, other) if few else (),
                _only(found, other, one) if few else (),
            )
        )
    return details


def _only(found: Statistics, one: Result, other: Result) -> list[tuple[str, str]]:
    """Return clips that the first alone got right, and what the other took them for."""
    indices = np.flatnonzero(one.right & ~other.right)[:_CLIPS_SHOWN]
    return [(found.tests.names[index], _class(found, other.predicted[index])) for index in indices]


def _class(found: Statistics, index: int) -> str:
    return found.tests.classes[index] if index >= 0 else "not scored"


def _taken_for(found: Statistics, index: int) -> list[tuple[str, int]]:
    """Return what the systems took a clip for, the most frequent first."""
    counts: dict[str, int] = {}
    for name, result in found.systems.items():
        if name not in found.controls:
            label = _class(found, result.whole.predicted[index])
            counts[label] = counts.get(label, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def _best(found: Statistics) -> str | None:
    """Return the system with the largest accuracy, controls left out."""
    names = [name for name in found.systems if name not in found.controls]
    if not names:
        return None
    return max(names, key=lambda name: found.systems[name].whole.accuracy.accuracy.value)


def _image(svg: bytes) -> str:
    return data_uri(svg, "image/svg+xml")


def big(number: float | None) -> str:
    """Return a count with its thousands in a letter: 2.4 M; a dash for None."""
    if number is None:
        return "\u2013"
    for letter, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {letter}"
    return f"{number:g}"


def size(number: int) -> str:
    """Return a number of bytes with its unit."""
    return f"{big(number)}B" if number >= 1000 else f"{number} B"
