"""Find clips with the same content, which would leak from training into test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from flowpipe.datasets.base import Clip, Dataset
from flowpipe.runner.provenance import fingerprint, sha256

_SHOWN = 5


def identical_clips(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Return the clips whose files hold the same bytes, a list for each content.

    Files of the same length are compared by a hash of some of their blocks first, and by their
    SHA-256 where that agrees, so that a set without duplicates is checked quickly.
    """
    files = {clip.path: clip for clip in clips if clip.path.is_file()}
    alike: list[list[Clip]] = [list(files.values())]
    for key in (
        lambda clip: clip.path.stat().st_size,
        lambda clip: fingerprint(clip.path)["fingerprint"],
        lambda clip: sha256(clip.path),
    ):
        finer: list[list[Clip]] = []
        for group in alike:
            by_key: defaultdict[object, list[Clip]] = defaultdict(list)
            for clip in group:
                try:
                    if clip.path.stat().st_size:
                        by_key[key(clip)].append(clip)
                except OSError:
                    continue
            finer += [same for same in by_key.values() if len(same) > 1]
        alike = finer
    return alike


def group_duplicates(dataset: Dataset) -> Dataset:
    """Put identical clips into one group, and say so in the notes.

    The groups of identical clips are joined as wholes. Official splits are left as they are; the
    notes name identical clips in both halves of a split, and under two labels.
    """
    identical = identical_clips(dataset.clips)
    if not identical:
        return dataset
    same = ["; ".join(" = ".join(repr(c.name) for c in group) for group in identical[:_SHOWN])]
    more = f" and {len(identical) - _SHOWN} more" if len(identical) > _SHOWN else ""
    count = sum(map(len, identical))
    notes = [f"{count} clips are byte-identical to others: {same[0]}{more}"]
    for group in identical:
        labels = sorted({str(clip.label) for clip in group if clip.label is not None})
        if len(labels) > 1:
            names = ", ".join(repr(clip.name) for clip in group)
            notes.append(f"{names} are identical, but labelled {' and '.join(labels)}")
    for split in dataset.splits:
        train, test = set(split.train), set(split.test)
        both = [
            [c.name for c in group]
            for group in identical
            if train & {c.name for c in group} and test & {c.name for c in group}
        ]
        if both:
            shown = "; ".join(" = ".join(map(repr, names)) for names in both[:_SHOWN])
            notes.append(
                f"{split.name}: {len(both)} of the test clips or more are training clips too: "
                f"{shown}"
            )
    return replace(
        dataset,
        clips=_in_one_group(dataset.clips, identical),
        notes=(*dataset.notes, *notes),
    )


def _in_one_group(clips: Sequence[Clip], identical: Sequence[Sequence[Clip]]) -> tuple[Clip, ...]:
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.get(group, group) != group:
            group = parent[group]
        return group

    def group_of(clip: Clip) -> str:
        return clip.name if clip.group is None else clip.group

    for same in identical:
        first = root(group_of(same[0]))
        for clip in same[1:]:
            parent[root(group_of(clip))] = first
    joined = {group_of(clip) for same in identical for clip in same}
    return tuple(
        replace(clip, group=root(group_of(clip))) if group_of(clip) in joined else clip
        for clip in clips
    )
