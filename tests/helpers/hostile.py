"""Reads mutated files in a process of its own; arguments are reader, seed, count, files.

The process may take 2 GB more than it has once its libraries are loaded. It prints a line of JSON:
how many files were read to the end and how many were refused. Any other exception ends it, with a
traceback, and leaves the file in the folder.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowpipe.errors import FlowpipeError

ROOM = 2 << 30
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)
_WORDS = (b"-", b"9" * 30, b"1e999", b"nan", b"]", b"")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few changes of the kinds that disks, transfers and enemies make."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        length = len(changed)
        place = (
            int(rng.integers(0, length + 1))
            if rng.random() < 0.6
            else int(rng.integers(0, min(length, 600) + 1))
        )
        match rng.integers(0, 8):
            case 0:  # a bit
                if place < length:
                    changed[place] ^= 1 << int(rng.integers(0, 8))
            case 1:  # the end
                del changed[place:]
            case 2:  # a part
                del changed[place : place + int(rng.integers(1, 64))]
            case 3:  # something between
                changed[place:place] = rng.bytes(int(rng.integers(1, 64)))
            case 4:  # a part twice
                changed[place:place] = changed[max(0, place - 50) : place]
            case 5:  # a number
                size = int(rng.choice([1, 2, 4, 8]))
                number = int(rng.choice(_NUMBERS)) & ((1 << 8 * size) - 1)
                order = "little" if rng.random() < 0.5 else "big"
                changed[place : place + size] = number.to_bytes(size, order)
            case 6:  # a block of zeros
                changed[place : place + 512] = bytes(len(changed[place : place + 512]))
            case 7:  # a digit, where it is text
                digits = [i for i, byte in enumerate(changed[:4000]) if 48 <= byte <= 57]
                if digits:
                    at = int(rng.choice(digits))
                    changed[at : at + 1] = rng.choice(
                        [b"-", b"9" * 30, b"1e999", b"nan", b"]", b""]
                    )
    return bytes(changed)


def _split(folder: Path) -> tuple[Path, str]:
    return folder.parent, folder.name


def read_flow(path: Path) -> None:
    from flowpipe.flow.store import FlowReader, StoredClip, verify

    name, _, suffix = path.name.partition(".")
    kind = {"zip": "zip", "npy": "npy", "npy.json": "npy", "h5": "h5"}.get(suffix)
    # Else it is a member of a folder.
    clip = StoredClip(path.parent, name, kind) if kind else StoredClip(*_split(path.parent), None)
    verify(clip)
    with FlowReader(clip) as reader:
        for index in range(min(len(reader), 20)):
            reader.flow(index)
        for index in range(min(reader.meta.n_images, 20)):
            reader.image(index)


def read_trajectories(path: Path) -> None:
    from flowpipe.trajectories.table import Table

    with Table(path) as table:
        table.read()


def read_scores(path: Path) -> None:
    from flowpipe.classify.scores import load_scores

    load_scores(path)


def read_classifier(path: Path) -> None:
    from flowpipe.prediction import load_classifier

    load_classifier(path)


def read_features(path: Path) -> None:
    from flowpipe.errors import FormatError
    from flowpipe.training.features.layouts import load_features, stored_features, verify

    if path.suffix == ".npy":
        load_features(path)
    for stored in stored_features(path.parent):
        if fault := verify(stored):
            raise FormatError(fault)


def read_encoders(path: Path) -> None:
    from flowpipe.encoding.files import load_encoders

    load_encoders(path)


def read_splits(path: Path) -> None:
    from flowpipe.classify.splits import read_splits

    read_splits(path)


def read_boxes(path: Path) -> None:
    from flowpipe.trajectories.boxes import read_boxes

    read_boxes(path)


def read_csv(path: Path) -> None:
    from flowpipe.datasets.lists import csv_list

    csv_list(path, path.parent)


def read_intervals(path: Path) -> None:
    from flowpipe.datasets.intervals import load_intervals

    load_intervals(path.parent if path.suffix == ".txt" else path, stored=())


def read_tsn(path: Path) -> None:
    from flowpipe.datasets.lists import tsn_lists

    tsn_lists(path.parent, (path,))


def read_state(path: Path) -> None:
    from flowpipe.runner.run_status import read

    read(path)


def read_ledger(path: Path) -> None:
    from flowpipe.runner.done_cache import unchanged

    unchanged(path.parents[2])


def read_used(path: Path) -> None:
    from flowpipe.runner.inspect import stale

    stale(path.parents[1])


def read_stage(path: Path) -> None:
    from flowpipe.runner.provenance import open_stage

    open_stage(path.parents[1], {"stage": "flow"})


def read_model(path: Path) -> None:
    from flowpipe.models.weights import load_model

    load_model(path)


def read_weights(path: Path) -> None:
    from flowpipe.models.weights import read_state

    read_state(path)


def read_video(path: Path) -> None:
    from flowpipe.io import video

    for number, _ in enumerate(video.frames(path, max_frames=20)):
        if number == 20:
            break
    video.require_whole(path)


READERS: dict[str, Callable[[Path], None]] = {
    name.removeprefix("read_"): function
    for name, function in list(globals().items())
    if name.startswith("read_")
}


def limit_memory() -> None:
    """Let the process take ROOM more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(reader: str, seed: str, count: str, *samples: str) -> None:
    read = READERS[reader]
    told: Counter[str] = Counter()
    rng = np.random.default_rng(int(seed))
    for number, path in enumerate(map(Path, samples)):
        whole = path.read_bytes()
        read(path)  # as it is, it can be read; and the libraries are loaded
        if number == 0:
            limit_memory()
        for _ in range(int(count)):
            path.write_bytes(mutated(whole, rng))
            try:
                read(path)
                told["read"] += 1
            except FlowpipeError:
                told["refused"] += 1
        path.write_bytes(whole)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
