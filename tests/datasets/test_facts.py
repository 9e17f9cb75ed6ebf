from __future__ import annotations

import pytest

from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.facts import SETS_WITH_FACTS, check_against_facts, data_folder, load_facts
from flowpipe.errors import ParameterError


def test_the_facts_are_those_the_papers_give():
    ucf, hmdb, kth, ut = (load_facts(n) for n in ("ucf101", "hmdb51", "kth", "ut-interaction"))
    assert (ucf.clips, len(ucf.classes), len(ucf.groups)) == (13320, 101, 25)
    sizes = [tuple(map(sum, zip(*each.values(), strict=True))) for each in ucf.splits.values()]
    assert sizes == [(9537, 3783), (9586, 3734), (9624, 3696)]
    assert (hmdb.clips, len(hmdb.classes)) == (6766, 51)
    assert all(set(each.values()) == {(70, 30)} for each in hmdb.splits.values())
    assert (kth.clips, len(kth.classes), len(kth.groups)) == (599, 6, 25)
    assert kth.exceptions == {"person13": {"handclapping": 3}}
    assert (ut.clips, len(ut.classes), len(ut.groups)) == (60, 6, 10)
    assert ut.exceptions == {"6": {"punch": 0}, "8": {"punch": 2}}


@pytest.mark.parametrize("name", SETS_WITH_FACTS)
def test_the_facts_are_consistent(name):
    facts = load_facts(name)
    assert sum(facts.classes.values()) == facts.clips
    for split in facts.splits.values():
        for label, halves in split.items():
            assert sum(halves) <= facts.classes[label]
    assert list(facts.classes) == sorted(facts.classes, key=str.casefold)


def whole(name):
    """A set as the facts want it, made up."""
    facts = load_facts(name)
    names = {
        label: [f"{label}/{n}" for n in range(count)] for label, count in facts.classes.items()
    }
    groups = facts.groups or ("film",)
    clips = tuple(
        Clip(f"{name}.avi", name, label, groups[number % len(groups)])
        for label, each in names.items()
        for number, name in enumerate(each)
    )
    splits = tuple(
        Split(
            split,
            tuple(n for label, (train, _) in halves.items() for n in names[label][:train]),
            tuple(
                n
                for label, (train, test) in halves.items()
                for n in names[label][train : train + test]
            ),
        )
        for split, halves in facts.splits.items()
    )
    return Dataset(name, clips, tuple(facts.classes), splits)


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_a_whole_set_agrees(name):
    assert check_against_facts(whole(name)) == []


def test_what_differs_is_said():
    ucf = whole("ucf101")
    lost = Dataset("ucf101", ucf.clips[1:], ucf.classes, ucf.splits[:2])
    assert check_against_facts(lost) == [
        "1 listed clips are not on disk, such as ApplyEyeMakeup/0",
        "13319 clips; ucf101 has 13320",
        "class ApplyEyeMakeup: 144 of 145 clips",
        "no official lists of split3",
    ]
    first = ucf.splits[0]
    wrong = Split("split1", first.train[1:], (*first.test, first.train[0]))
    assert check_against_facts(
        Dataset("ucf101", ucf.clips, ucf.classes, (wrong, *ucf.splits[1:]))
    ) == [
        "split1: 9536 training and 3784 test clips; ucf101 has 9537 and 3783",
        "split1, training+test clips: ApplyEyeMakeup 100+45 not 101+44",
    ]
    turned = Dataset("ucf101", ucf.clips, ucf.classes[::-1], ucf.splits)
    assert check_against_facts(turned) == ["classes are not those of ucf101: in another order"]
    more = Dataset("ucf101", ucf.clips, (*ucf.classes, "Sleeping"), ucf.splits)
    assert check_against_facts(more) == ["classes that ucf101 does not have: Sleeping"]


def test_a_set_without_facts_has_its_missing_clips_reported():
    mine = Dataset("mine", (), ("a",), (Split("s", ("a/x",), ()),), (Clip("y.avi", "a/y", "a"),))
    assert check_against_facts(mine) == ["2 listed clips are not on disk, such as a/x, a/y"]
    with pytest.raises(ParameterError, match=r"'mine'.*ucf101"):
        load_facts("mine")


def test_the_data_are_described():
    text = (data_folder() / "README.md").read_text(encoding="utf-8")
    for name in SETS_WITH_FACTS:
        assert f"{name}.json" in text
