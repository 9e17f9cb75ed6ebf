"""Controls of idt-baseline: what a set gives away besides motion.

    python scripts/control_baseline.py labels VECTORS [--times 200]
    python scripts/control_baseline.py size DATASET TRAJECTORIES
    python scripts/control_baseline.py deal DATASET TRAJECTORIES OUT

`labels` gives the labels out anew within every group, at random, trains and tests as before on the
kernels of an encoded set, and says what accuracy comes of that: chance, and how far luck reaches.

`size` classifies by the size of the videos and the number of their frames alone, in logs (one-vs-
rest machines with a Gaussian kernel, leave one group out), and by the number of frames alone.

`deal` writes tables in which every clip has as many rows as before, drawn without repetition from
those of all clips together: whose motion it is, is permuted, and what is left of a clip is how
much of it there was. `flowpipe encode DATASET OUT` and `flowpipe classify` then say whether the
size or the length of clips come through to the classifier. They should reach chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from flowpipe.classify.kernels import mean_gram
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol, leave_one_group_out, protocol_from_json
from flowpipe.classify.svm import one_vs_rest
from flowpipe.classify.work import kernel_path, load_kernel
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import load_dataset
from flowpipe.io.source import VideoSource
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.runner import json_files, provenance
from flowpipe.trajectories.clip_tables import find_tables
from flowpipe.trajectories.extract import Trajectories
from flowpipe.trajectories.table import Table, TableWriter

Labels = NDArray[np.int64]


def permuted_labels(vectors: Path, times: int) -> None:
    """Accuracies with labels that are permuted within the test clips of each split."""
    protocol = protocol_from_json(vectors / PROTOCOL)
    descriptors = json_files.read_json(provenance.stage_path(vectors))["descriptors"]
    grams = []
    for number, split in enumerate(protocol.splits, 1):
        kernels = [load_kernel(kernel_path(vectors, number, name)) for name in descriptors]
        assert kernels[0][0] == (*split.train, *split.test)
        grams.append(mean_gram(kernel for _, kernel in kernels))
    right = accuracy(protocol, grams, dict(protocol.labels))
    print(f"as they are: {100 * right:.1f} %")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(times):
        labels: dict[str, str] = {}
        # Where each group is tested once, the test clips of a split are a group.
        for split in protocol.splits:
            dealt = rng.permutation([protocol.labels[name] for name in split.test])
            labels.update(zip(split.test, dealt.tolist(), strict=True))
        found.append(accuracy(protocol, grams, labels))
    low, high = np.percentile(found, [2.5, 97.5])
    print(
        f"permuted {times} times: mean {100 * np.mean(found):.1f} %, 95 % of them within "
        f"{100 * low:.1f} to {100 * high:.1f} %, at most {100 * max(found):.1f} %"
    )


def accuracy(
    protocol: Protocol, grams: Sequence[NDArray[np.float32]], labels: dict[str, str]
) -> float:
    """Part of all tests that is right with these labels."""
    right = tests = 0
    for split, gram in zip(protocol.splits, grams, strict=True):
        names = (*split.train, *split.test)
        truth = np.array([protocol.classes.index(labels[name]) for name in names])
        train, test = np.split(np.arange(len(names)), [len(split.train)])
        scores = one_vs_rest(gram, truth[train], train, test, len(protocol.classes), Svm())
        right += int((scores.argmax(axis=1) == truth[test]).sum())
        tests += len(test)
    return right / tests


def by_size(dataset: Dataset, trajectories: Path) -> None:
    """Accuracy of a classifier that knows size and length alone."""
    tables, _ = find_tables(dataset.clips, trajectories)
    facts = {}
    for name, table in tables.items():
        with Table(table.path) as opened:
            frames = opened.attributes["length"]
        first = next(iter(VideoSource(table.video, max_frames=1)))
        facts[name] = [first.shape[1], first.shape[0], frames]
    protocol = leave_one_group_out(dataset)
    for told, columns in (("width, height and frames", [0, 1, 2]), ("frames", [2])):
        right = tests = 0
        for split in protocol.splits:
            x_train, x_test = (
                np.log([facts[name] for name in half])[:, columns]
                for half in (split.train, split.test)
            )
            model = make_pipeline(StandardScaler(), SVC(C=10, decision_function_shape="ovr"))
            model.fit(x_train, protocol.indices(split.train))
            right += int((model.predict(x_test) == protocol.indices(split.test)).sum())
            tests += len(split.test)
        print(f"by {told} alone: {100 * right / tests:.1f} % of {tests}")


def deal(dataset: Dataset, trajectories: Path, out: Path) -> None:
    """Tables whose rows are dealt out anew among all clips."""
    tables, _ = find_tables(dataset.clips, trajectories)
    fields: dict[str, list[NDArray[np.float32]]] = {}
    for table in tables.values():
        with Table(table.path) as opened:
            parameters = opened.parameters
            for name, values in opened.read().items():
                fields.setdefault(name, []).append(values)
    pool = {name: np.concatenate(parts) for name, parts in fields.items()}
    order = np.random.default_rng(0).permutation(len(pool["info"]))
    description = json_files.read_json(provenance.stage_path(trajectories))
    provenance.open_stage(out, {**description, "rows": "dealt anew"})
    begin = 0
    for name, table in tables.items():
        chosen = order[begin : begin + table.rows]
        begin += table.rows
        with Table(table.path) as opened:
            attributes = opened.attributes
        path = out / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = [int(attributes.pop(key)) for key in ("length", "width", "height")]
        with TableWriter(path, parameters) as writer:
            writer.append(Trajectories(**{key: values[chosen] for key, values in pool.items()}))
            writer.finish(*frame, **attributes)
    print(f"{len(tables)} tables in {out}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    labels = commands.add_parser("labels", help="labels permuted within groups")
    labels.add_argument("vectors", type=Path)
    labels.add_argument("--times", type=int, default=200)
    size = commands.add_parser("size", help="size and length alone")
    dealt = commands.add_parser("deal", help="tables with rows dealt anew")
    for command in (size, dealt):
        command.add_argument("dataset", type=Path)
        command.add_argument("trajectories", type=Path)
    dealt.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "labels":
        permuted_labels(given.vectors, given.times)
        return
    dataset = load_dataset(given.dataset)
    if given.command == "size":
        by_size(dataset, given.trajectories)
    else:
        deal(dataset, given.trajectories, given.out)


if __name__ == "__main__":
    main()
