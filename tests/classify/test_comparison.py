"""Accuracies, fusions and pairs of systems, on tables that can be added up by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.classify import comparison
from flowpipe.classify.comparison import Member, statistics
from flowpipe.classify.paired import protocol_tests
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores
from flowpipe.datasets.base import Split

NAMES = ("a/1", "a/2", "b/1", "b/2")
PROTOCOL = Protocol(
    "made up",
    ("a", "b"),
    (Split("one", ("a/0", "b/0"), NAMES),),
    {name: name[0] for name in ("a/0", "b/0", *NAMES)},
)
TESTS = protocol_tests(PROTOCOL)

# Scores of class a over class b: positive says a. The truth is a, a, b, b.
TABLES = {
    ("size", "size"): [-1, -1, 1, 1],  # a control that is always wrong
    ("idt", "trajectories"): [1, -1, -1, -1],
    ("net", "rgb"): [1, 1, 1, 3],
    ("net", "flow"): [-2, 2, -2, -1],
    ("other", "rgb"): [3, 0.5, 3, 3],
}
GROUPS = {"size": "control", "idt": "classical", "net": "2d", "other": "2d"}
WEIGHTS = {"rgb": 1.0, "flow": 1.5}


def read(name, stream):
    over = np.array(TABLES[name, stream], np.float32)
    return Scores(
        PROTOCOL.classes,
        (PROTOCOL.scored("one", NAMES, np.stack([over, np.zeros_like(over)], 1)),),
    )


@pytest.fixture
def members():
    found = {}
    for name, group in GROUPS.items():
        streams = {stream: WEIGHTS.get(stream, 1.0) for n, stream in TABLES if n == name}
        found[name] = Member(group, streams, lambda stream, name=name: read(name, stream))
    return found


def rights(result):
    return result.right.astype(int).tolist()


def test_the_golden_table(members):
    found = statistics(members, TESTS)
    assert list(found.systems) == ["size", "idt", "net", "other"]
    net = found.systems["net"]
    assert rights(net.streams["rgb"]) == [1, 1, 0, 0]
    assert rights(net.streams["flow"]) == [0, 1, 1, 1]
    # 1 x frames + 1.5 x flow: -2, 4, -2, 1.5
    assert rights(net.whole) == [0, 1, 1, 0]
    # with idt; of two classes, standardised scores are signs: -2.5 + 1, 2.5 - 1, -2.5 - 1, 2.5 - 1
    assert rights(net.with_partner) == [0, 1, 1, 0]
    # 1 + 1, 1 - 1, 1 - 1, 1 - 1; 0 is no more than 0: the first
    assert rights(found.systems["other"].with_partner) == [1, 1, 0, 0]
    assert found.systems["idt"].with_partner is None
    assert found.systems["size"].with_partner is None
    assert found.systems["idt"].whole.accuracy.accuracy.value == 0.75


def test_every_pair_group_and_all_are_fused_but_no_control(members):
    found = statistics(members, TESTS)
    sums = {each.members: rights(each.result) for each in found.fusions}
    assert sums == {
        ("idt", "net", "other"): [0, 1, 1, 0],  # -0.5, 2.5, -2.5, 2.5
        ("net", "other"): [0, 1, 1, 0],  # -1.5, 3.5, -1.5, 3.5
        ("idt", "net"): [0, 1, 1, 0],
        ("idt", "other"): [1, 1, 0, 0],
    }
    best = [each.result.accuracy.accuracy.value for each in found.fusions]
    assert best == sorted(best, reverse=True)


def test_fusions_do_not_depend_on_the_scale_of_a_system(members):
    """Logits of tens are no more than distances of 1."""
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1, 1e3):
        rows = {name: rng.normal(size=(len(NAMES), 2)).astype(np.float32) for name in members}
        expected = sums_of(rows)
        assert sums_of({**rows, "net": scale * rows["net"] + 5}) == expected


def sums_of(rows):
    def read(stream, table):
        return Scores(PROTOCOL.classes, (PROTOCOL.scored("one", NAMES, table),))

    # Of two classes, standardised scores are signs; no sum of these weights is 0.
    members = {
        name: Member(GROUPS[name], {"x": 1 + number / 3}, lambda stream, t=table: read(stream, t))
        for number, (name, table) in enumerate(rows.items())
    }
    return {each.members: rights(each.result) for each in statistics(members, TESTS).fusions}


def test_pairs_are_of_all_streams_together(members):
    pairs = statistics(members, TESTS).pairs
    assert len(pairs) == 6
    pair = pairs["idt", "net"]  # idt has 1 0 1 1, net 0 1 1 0
    assert (pair.first_only, pair.second_only) == (2, 1)


def test_what_all_systems_miss_leaves_controls_out(members):
    del members["net"]
    found = statistics(members, TESTS)
    assert found.missed_by_all().tolist() == []  # other has the second, idt the rest
    del members["other"]
    assert statistics(members, TESTS).missed_by_all().tolist() == [1]
    del members["idt"]
    assert statistics(members, TESTS).missed_by_all().tolist() == []


def test_of_large_sets_each_is_fused_with_idt_and_its_group_only(members, monkeypatch):
    whole = {each.members: rights(each.result) for each in statistics(members, TESTS).fusions}
    monkeypatch.setattr(comparison, "_PAIRS_BYTES", 0)
    found = statistics(members, TESTS)
    assert not found.all_pairs_fused
    sums = {tuple(sorted(each.members)): rights(each.result) for each in found.fusions}
    assert sums == {tuple(sorted(names)): value for names, value in whole.items()}


def test_nothing_to_compare():
    found = statistics({}, TESTS)
    assert (dict(found.systems), found.fusions, dict(found.pairs)) == ({}, [], {})
