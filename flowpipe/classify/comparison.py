"""What is computed from the scores of all systems: accuracies, fusions, pairs, clips that all miss.

Scores are read one system at a time, and added up into the fusions, so that memory grows with the
number of systems only where sets are small and all pairs of systems are fused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.fusion import standardised
from flowpipe.classify.paired import (
    Accuracy,
    Pair,
    Right,
    Tests,
    accuracy_of,
    compare_pair,
    predictions_of,
    table_of,
)
from flowpipe.classify.scores import Scores

PARTNER = "idt"
"""The system that is fused with every other: improved trajectories."""
_PAIRS_BYTES = 128 << 20
"""Largest size of the scores of all systems for which all pairs of them are fused."""

Table = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Result:
    """A column of the table: scores of a stream, of a system, or of a fusion.

    Attributes
    ----------
    accuracy
        Its accuracy.
    predicted
        (tests,) predicted classes, -1 where a test was not scored, which counts as wrong.
    right
        (tests,) which tests it got right.
    """

    accuracy: Accuracy
    predicted: NDArray[np.int32]
    right: Right

    @property
    def unscored(self) -> int:
        """Number of tests without scores."""
        return int(np.count_nonzero(self.predicted < 0))


@dataclass(frozen=True, eq=False)
class SystemResult:
    """The results of a system.

    Attributes
    ----------
    streams
        Of each stream alone.
    whole
        Of all streams together, with fixed weights.
    with_partner
        Of these and improved trajectories; None of that system itself, or without it.
    """

    streams: Mapping[str, Result]
    whole: Result
    with_partner: Result | None


@dataclass(frozen=True, eq=False)
class Fusion:
    """A sum of the standardised scores of systems, with fixed weights."""

    members: tuple[str, ...]
    result: Result


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of all systems.

    Attributes
    ----------
    tests
        The tests.
    systems
        Results by name, in the order given.
    fusions
        Sums of several systems, the best first.
    pairs
        Each pair of systems, in their order.
    all_pairs_fused
        Whether every pair of systems was fused.
    controls
        Names of the controls, which take no part in fusions.
    """

    tests: Tests
    systems: Mapping[str, SystemResult]
    fusions: Sequence[Fusion]
    pairs: Mapping[tuple[str, str], Pair]
    all_pairs_fused: bool
    controls: frozenset[str]

    def missed_by_all(self) -> NDArray[np.int64]:
        """Return the tests that every system but the controls got wrong."""
        rights = [
            result.whole.right for name, result in self.systems.items() if name not in self.controls
        ]
        if not rights:
            return np.empty(0, np.int64)
        return np.flatnonzero(~np.any(rights, axis=0))


@dataclass(frozen=True)
class Member:
    """A system whose scores are read.

    Attributes
    ----------
    group
        Its group; controls take no part in fusions.
    streams
        Weight of each stream.
    read
        Return the scores of a stream.
    """

    group: str
    streams: Mapping[str, float]
    read: Callable[[str], Scores]


def statistics(members: Mapping[str, Member], tests: Tests) -> Statistics:
    """Read the scores of all systems, and compare them.

    Parameters
    ----------
    members
        The systems by name.
    tests
        The tests of the protocol.

    Raises
    ------
    FormatError, ParameterError
        Scores are damaged, or of other classes.
    """
    controls = frozenset(name for name, member in members.items() if member.group == "control")
    fused = [name for name in members if name not in controls]
    size = 4 * len(tests) * len(tests.classes)
    pairwise = size * len(fused) <= _PAIRS_BYTES
    partner = None
    if PARTNER in members:
        partner = _part(members[PARTNER], _whole(members[PARTNER], tests)[0])
    found: dict[str, SystemResult] = {}
    tables: dict[str, Table] = {}
    fusions: list[Fusion] = []
    everything = np.zeros((len(tests), len(tests.classes)), np.float32)
    for group in dict.fromkeys(member.group for member in members.values()):
        names = tuple(name for name, member in members.items() if member.group == group)
        together = np.zeros_like(everything)
        for name in names:
            streams: dict[str, Result] = {}
            table, known = _whole(members[name], tests, streams)
            part = _part(members[name], table)
            joined = None
            if partner is not None and name != PARTNER and name not in controls:
                joined = _result(part + partner, known, tests)
            found[name] = SystemResult(streams, _result(table, known, tests), joined)
            together += part
            if pairwise and name not in controls:
                tables[name] = part
        if group != "control":
            everything += together
            if 1 < len(names) < len(fused):
                fusions.append(_fusion(names, together, tests))
    systems = {name: found[name] for name in members}
    if len(fused) > 1:
        fusions.append(_fusion(tuple(fused), everything, tests))
    listed = {each.members for each in fusions}
    if pairwise:
        for first, second in combinations(fused, 2):
            if (first, second) not in listed:
                fusions.append(_fusion((first, second), tables[first] + tables[second], tests))
    else:
        fusions += [
            Fusion((name, PARTNER), result.with_partner)
            for name, result in systems.items()
            if result.with_partner is not None
        ]
    fusions.sort(key=lambda each: (-each.result.accuracy.accuracy.value, len(each.members)))
    pairs = {
        (first, second): compare_pair(systems[first].whole.right, systems[second].whole.right)
        for first, second in combinations(systems, 2)
    }
    return Statistics(tests, systems, fusions, pairs, pairwise, controls)


def _fusion(members: tuple[str, ...], table: Table, tests: Tests) -> Fusion:
    return Fusion(members, _result(table, np.ones(len(tests), np.bool_), tests))


def _whole(
    member: Member, tests: Tests, streams: dict[str, Result] | None = None
) -> tuple[Table, Right]:
    """Return the weighted sum of a system's streams; note the result of each."""
    total = np.zeros((len(tests), len(tests.classes)), np.float32)
    known = np.ones(len(tests), np.bool_)
    for stream, weight in member.streams.items():
        table, scored = table_of(member.read(stream), tests)
        if streams is not None:
            streams[stream] = _result(table, scored, tests)
        table *= weight
        total += table
        known &= scored
    return total, known


def _part(member: Member, table: Table) -> Table:
    """Return what a system adds to a fusion: its standardised scores, with its streams' weights.

    Logits of a network may be tens, distances of SVMs are about 1: added as they are, the larger
    would decide alone.
    """
    return sum(member.streams.values()) * standardised(table)


def _result(table: Table, known: Right, tests: Tests) -> Result:
    predicted = predictions_of(table, known)
    right = predicted == tests.labels
    return Result(accuracy_of(right, tests), predicted, right)
