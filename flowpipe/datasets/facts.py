"""What is known of the published sets, to check a download against."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpipe.datasets.base import Dataset, Split
from flowpipe.errors import ParameterError

SETS_WITH_FACTS = ("hmdb51", "kth", "ucf101", "ut-interaction", "weizmann")
_SHOWN = 5


@dataclass(frozen=True)
class Facts:
    """Hold the counts of a published set.

    Attributes
    ----------
    name
        That of the :class:`~flowpipe.datasets.base.Dataset` its reader returns.
    clips
        How many in all.
    classes
        Clips per class, in the set's own order.
    groups
        Names of all groups; empty where groups are too many to list.
    splits
        By split and class, the clips for training and for test.
    exceptions
        By group and class, the clips where they differ from the set's usual number
        (``clips_per_group``) of a class in a group.
    clips_per_group
        The usual number, None where there is none.
    """

    name: str
    clips: int
    classes: Mapping[str, int]
    groups: tuple[str, ...]
    splits: Mapping[str, Mapping[str, tuple[int, int]]]
    exceptions: Mapping[str, Mapping[str, int]]
    clips_per_group: int | None


def data_folder() -> Path:
    """Return the folder of the data that ship with flowpipe, installed or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "data"


def load_facts(name: str) -> Facts:
    """Load the facts of one of :data:`SETS_WITH_FACTS`."""
    if name not in SETS_WITH_FACTS:
        raise ParameterError(f"no facts of {name!r}; there are of {', '.join(SETS_WITH_FACTS)}")
    text = (data_folder() / f"{name}.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    classes = known["classes"]
    return Facts(
        name=name,
        clips=known["clips"],
        classes={label: counts["clips"] for label, counts in classes.items()},
        groups=tuple(known.get("groups", ())),
        splits={
            split: {
                label: (counts[split][0], counts[split][1]) for label, counts in classes.items()
            }
            for split in known["splits"]
        },
        exceptions=known.get("exceptions", {}),
        clips_per_group=known.get("clips_per_group"),
    )


def check_against_facts(dataset: Dataset) -> list[str]:
    """Compare a set with what is known of it.

    Parameters
    ----------
    dataset
        Any set. Those of :data:`SETS_WITH_FACTS` are compared with their facts, and every set has
        its missing clips reported.

    Returns
    -------
    list of str
        What differs, one readable sentence each; empty where nothing does.
    """
    missing = dataset.missing()
    found = []
    if missing:
        found.append(
            f"{len(missing)} listed clips are not on disk, such as {', '.join(missing[:3])}"
        )
    if dataset.name not in SETS_WITH_FACTS:
        return found
    facts = load_facts(dataset.name)
    if len(dataset.clips) != facts.clips:
        found.append(f"{len(dataset.clips)} clips; {facts.name} has {facts.clips}")
    found += _check_classes(dataset, facts)
    found += _check_groups(dataset, facts)
    found += _check_splits(dataset, facts)
    return found


def _check_classes(dataset: Dataset, facts: Facts) -> list[str]:
    found = []
    unknown = set(dataset.classes) - set(facts.classes)
    if unknown:
        found.append(f"classes that {facts.name} does not have: {_some(sorted(unknown))}")
    elif dataset.classes != tuple(facts.classes):
        lacking = [label for label in facts.classes if label not in dataset.classes]
        what = f"lacking: {_some(lacking)}" if lacking else "in another order"
        found.append(f"classes are not those of {facts.name}: {what}")
    counts = Counter(clip.label for clip in dataset.clips)
    for label, expected in facts.classes.items():
        if counts[label] != expected:
            found.append(f"class {label}: {counts[label]} of {expected} clips")
    return found


def _check_groups(dataset: Dataset, facts: Facts) -> list[str]:
    if not facts.groups:
        return []
    found = []
    groups = {clip.group for clip in dataset.clips if clip.group is not None}
    lacking = [group for group in facts.groups if group not in groups]
    extra = sorted(groups - set(facts.groups))
    if lacking:
        found.append(f"groups without a clip: {_some(lacking)}")
    if extra:
        found.append(f"groups that {facts.name} does not have: {_some(extra)}")
    if facts.clips_per_group is None:
        return found
    counts = Counter((clip.group, clip.label) for clip in dataset.clips)
    for group in facts.groups:
        for label in facts.classes:
            expected = facts.exceptions.get(group, {}).get(label, facts.clips_per_group)
            if group in groups and counts[group, label] != expected:
                count = counts[group, label]
                found.append(f"group {group}, class {label}: {count} of {expected} clips")
    return found


def _check_splits(dataset: Dataset, facts: Facts) -> list[str]:
    found = []
    splits = {split.name: split for split in dataset.splits}
    labels = {clip.name: clip.label for clip in dataset.clips}
    lacking = [name for name in facts.splits if name not in splits]
    if lacking:
        found.append(f"no official lists of {', '.join(lacking)}")
    for name, expected in facts.splits.items():
        if name not in splits:
            continue
        halves = _halves_by_class(splits[name], labels)
        total = tuple(sum(counts[half] for counts in expected.values()) for half in (0, 1))
        actual = (len(splits[name].train), len(splits[name].test))
        if actual != total:
            found.append(
                f"{name}: {actual[0]} training and {actual[1]} test clips; "
                f"{facts.name} has {total[0]} and {total[1]}"
            )
        wrong = [
            f"{label} {halves[0][label]}+{halves[1][label]} not {train}+{test}"
            for label, (train, test) in expected.items()
            if (halves[0][label], halves[1][label]) != (train, test)
        ]
        if wrong:
            more = f" and {len(wrong) - 5} classes more" if len(wrong) > 5 else ""
            found.append(f"{name}, training+test clips: {', '.join(wrong[:5])}{more}")
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _halves_by_class(
    split: Split, labels: Mapping[str, str | None]
) -> tuple[Counter[str], Counter[str]]:
    def count(names: Iterable[str]) -> Counter[str]:
        # a clip that is not on disk has its class in its name
        return Counter(labels.get(name) or name.partition("/")[0] for name in names)

    return count(split.train), count(split.test)
