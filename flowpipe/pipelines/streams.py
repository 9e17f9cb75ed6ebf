"""One stream: its networks trained on the flow of a labelled set, and tested, split by split."""

from __future__ import annotations

import csv
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from flowpipe.classify.metrics import Metrics, evaluate
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores, SplitScores, load_scores, save_scores
from flowpipe.datasets.base import Dataset, Split
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import identity, initialise, load_model
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.progress import clock_time
from flowpipe.runner.provenance import digest
from flowpipe.training.data.datasets import stream_clips, testing_transform, training_transform
from flowpipe.training.data.sampler import Joined
from flowpipe.training.distributed import Group, alone, pick_device, process_group
from flowpipe.training.evaluate import Testing, score_clips
from flowpipe.training.log import LOG_NAME, Epoch
from flowpipe.training.parameters import Snippets, Stream
from flowpipe.training.train import MODEL_NAME, Loading, train

logger = logging.getLogger(__name__)


_SPOKEN_EVERY = 20.0


@dataclass(frozen=True)
class LabelledFlow:
    """A labelled set and the flow of its clips.

    Attributes
    ----------
    dataset, protocol
        The clips, and which of them train and which are tested.
    flow
        Folder of ``extract-flow``.
    """

    dataset: Dataset
    protocol: Protocol
    flow: Path

    def labelled(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Clips with their class indices."""
        return list(zip(names, self.protocol.indices(names).tolist(), strict=True))

    def description(self) -> Json:
        """What tells it apart."""
        return {
            "set": self.dataset.name,
            "protocol": self.protocol.name,
            "classes": list(self.protocol.classes),
            "clips": digest(
                [
                    [split.name, self.labelled(split.train), self.labelled(split.test)]
                    for split in self.protocol.splits
                ]
            ),
            # Flow of other tools says nothing of itself.
            "flow": provenance.read_stage(self.flow),
        }

    def split(self, name: str) -> Split:
        """The split of a name."""
        for split in self.protocol.splits:
            if split.name == name:
                return split
        known = ", ".join(repr(split.name) for split in self.protocol.splits)
        raise ParameterError(
            f"{self.protocol.name} of {self.dataset.name} has no split {name!r}; there are {known}"
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and how networks run; nothing of it is part of a result.

    Attributes
    ----------
    device
        ``auto``, or a torch device.
    loading
        Processes that read, and steps between checkpoints.
    tensorboard
        Write TensorBoard's files too.
    """

    device: str = "auto"
    loading: Loading = field(default_factory=Loading)
    tensorboard: bool = False


def train_stream(
    sets: Sequence[LabelledFlow],
    stream: Stream,
    out: Path,
    *,
    splits: Sequence[str] = (),
    machine: Machine | None = None,
) -> None:
    """Train the networks of a stream, one for each split.

    Each has a folder in `out`, ``<number>-<split>``, with ``model.npz``, ``log.csv`` and
    ``curves.png``. Several processes that ``torchrun`` started train each network together.

    Parameters
    ----------
    sets
        The set; and others that share the network but for its last layer (multi-task learning).
        They must have splits of the same names.
    stream
        What is trained.
    out
        The output folder; made if it is not there.
    splits
        Names of those to train for, by default all.
    machine
        Where it runs.

    Raises
    ------
    StageMismatchError
        The folder holds networks of other parameters.
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed, and nothing is trained.
    """
    machine = machine or Machine()
    description = training_of(sets, stream)
    chosen = _chosen(sets[0], splits)
    with process_group(machine.device) as group:
        provenance.open_stage(out, description)
        check_clips(sets, [split.name for split in chosen], stream.snippets)
        for split in chosen:
            folder = split_folder(sets[0].protocol, split, out)
            if (folder / MODEL_NAME).exists():
                _tell(group, f"{split.name}: trained already")
                continue
            clips = _training_clips(sets, split.name, stream)
            _tell(group, f"{split.name}: {len(clips)} clips, {stream.network.backbone}")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream.training.seed)
                network = StreamNetwork(
                    stream.network,
                    stream.snippets.channels,
                    [len(each.protocol.classes) for each in sets],
                )
                initialise(network, stream.weights)
            about = {
                "split": split.name,
                "classes": [list(each.protocol.classes) for each in sets],
                "stream": description,
            }
            train(
                network,
                clips,
                stream.training,
                folder,
                about,
                group=group,
                loading=machine.loading,
                tensorboard=machine.tensorboard,
                report=_Spoken(split.name),
            )
        if group.leads:
            atomic.remove_stale(out)


def check_clips(
    sets: Sequence[LabelledFlow], splits: Sequence[str], snippets: Snippets, *, tests: bool = False
) -> None:
    """Look at all clips that networks will be trained on, and tested on.

    Raises
    ------
    UnusableClipsError
        Some are missing, too short or damaged; all are listed.
    """
    for each in sets:
        found = [each.split(name) for name in splits]
        halves = [split.train + (split.test if tests else ()) for split in found]
        names = dict.fromkeys(name for half in halves for name in half)
        stream_clips(
            each.flow, each.labelled(list(names)), snippets, sampling="centre", transform=None
        )


def score_stream(
    models: Path,
    tested: LabelledFlow,
    testing: Testing,
    out: Path,
    *,
    number: int = 0,
    splits: Sequence[str] = (),
    machine: Machine | None = None,
) -> Scores:
    """Score the test clips of every split with its network; write ``scores.npz``.

    Parameters
    ----------
    models
        Folder of :func:`train_stream`.
    tested
        The set and its flow.
    testing
        How much of a clip is looked at.
    out
        The output folder; made if it is not there.
    number
        Which of the sets that the networks were trained on it is, from 0.
    splits
        Names of those to test, by default all.
    machine
        Where it runs.

    Returns
    -------
    Scores
        As they were written.

    Raises
    ------
    FormatError
        A network is missing or of another set.
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.
    """
    alone("test-stream")
    machine = machine or Machine()
    chosen = _chosen(tested, splits)
    folders = {split.name: split_folder(tested.protocol, split, models) for split in chosen}
    loaded = {name: _model(folder, tested, number) for name, folder in folders.items()}
    description = {
        **testing.description(),
        "models": {name: provenance.sha256(folders[name] / MODEL_NAME) for name in loaded},
        "tested": tested.description(),
    }
    provenance.open_stage(out, description)
    atomic.remove_stale(out)
    parts: list[SplitScores] = []
    for split in chosen:
        network, snippets = loaded[split.name]
        part = split_folder(tested.protocol, split, out).with_suffix(".npz")
        if not part.exists():
            found = _tested(network, snippets, tested, split, testing, number, machine)
            save_scores(part, Scores(tested.protocol.classes, (found,)), out)
        parts.extend(load_scores(part).splits)
    scores = Scores(tested.protocol.classes, tuple(parts))
    save_scores(out / "scores.npz", scores, out)
    metrics = evaluate(scores)
    atomic.write_atomic(out / "metrics.json", json_files.to_json(metrics.to_json()), out)
    atomic.remove_stale(out)
    logger.info(line_of(snippets.modality, metrics))
    return scores


def training_of(sets: Sequence[LabelledFlow], stream: Stream) -> Json:
    """What ``stage.json`` of trained networks says."""
    return {
        **stream.description(),
        "weights": identity(stream.weights),
        "sets": [each.description() for each in sets],
    }


def split_folder(protocol: Protocol, split: Split, out: Path) -> Path:
    """Where the network of a split stands."""
    number = [each.name for each in protocol.splits].index(split.name) + 1
    return out / f"{number:02d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', split.name)}"


def training_seconds(models: Path) -> float:
    """What the logs of trained networks add up to."""
    total = 0.0
    for path in sorted(models.glob(f"*/{LOG_NAME}")):
        with path.open(newline="") as file:
            total += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return total


def line_of(name: str, metrics: Metrics) -> str:
    """A line of a table for the terminal."""
    found = metrics.accuracy
    return (
        f"{name:24s} {100 * found.value:5.1f} % of {int(metrics.confusion.sum())} tests "
        f"(95 %: {100 * found.low:.1f} to {100 * found.high:.1f}), "
        f"mean class accuracy {100 * metrics.mean_class_accuracy.value:.1f} %"
    )


class _Spoken:
    """Says how a training goes, every now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = time.monotonic()

    def __call__(self, epoch: Epoch, count: int) -> None:
        now = time.monotonic()
        if now - self._last < _SPOKEN_EVERY and epoch.epoch < count:
            return
        self._last = now
        left = clock_time((count - epoch.epoch) * epoch.seconds)
        logger.info(
            f"{self._name}: epoch {epoch.epoch}/{count}, loss {epoch.loss:.3f}, "
            f"accuracy {100 * epoch.accuracy:.1f} %, "
            f"{epoch.clips / max(epoch.seconds, 1e-9):.1f} clips/s, {left} left"
        )


def _tell(group: Group, line: str) -> None:
    if group.leads:
        logger.info(line)


def _chosen(labelled: LabelledFlow, names: Sequence[str]) -> list[Split]:
    if not names:
        return list(labelled.protocol.splits)
    return [labelled.split(name) for name in names]


def _training_clips(sets: Sequence[LabelledFlow], split: str, stream: Stream) -> Joined:
    snippets = stream.snippets
    opened = [
        stream_clips(
            each.flow,
            each.labelled(each.split(split).train),
            snippets,
            sampling="random",
            transform=training_transform(snippets),
            seed=stream.training.seed,
        )
        for each in sets
    ]
    return Joined(opened, [len(each.protocol.classes) for each in sets])


def _model(folder: Path, tested: LabelledFlow, number: int) -> tuple[StreamNetwork, Snippets]:
    network, about = load_model(folder / MODEL_NAME)
    try:
        classes = about["classes"][number]
        snippets = Snippets(**about["stream"]["snippets"])
    except (KeyError, IndexError, TypeError, ParameterError) as error:
        raise FlowpipeError(
            f"{str(folder / MODEL_NAME)!r} does not say what it was trained on: {error!r}"
        ) from None
    if list(classes) != list(tested.protocol.classes):
        raise FlowpipeError(
            f"{str(folder / MODEL_NAME)!r} was trained on other classes than those of "
            f"{tested.dataset.name!r}"
        )
    if snippets.is_flow:
        trained = about["stream"]["sets"][number].get("flow")
        _check_flow(folder / MODEL_NAME, trained, tested.flow)
    return network, snippets


def _check_flow(model: Path, trained: Json | None, folder: Path) -> None:
    """Compare the flow that a network was trained on with the flow that it is tested on.

    Raises
    ------
    FlowpipeError
        They differ in bound or step, which scale what the network sees. Other differences are
        logged. Flow without a record is not compared.
    """
    tested = provenance.read_stage(folder)
    if trained is None or tested is None:
        return
    for name in ("bound", "step", "size", "method", "stage"):
        values = [_flow_setting(each, name) for each in (trained, tested)]
        if values[0] == values[1] or (name == "bound" and None in values):
            continue
        sentence = (
            f"{str(model)!r} was trained on flow with {name} {values[0]}, "
            f"and the flow in {str(folder)!r} has {name} {values[1]}"
        )
        if name in ("bound", "step"):
            raise FlowpipeError(f"{sentence}; extract it with the same {name}")
        logger.warning(sentence)


def _flow_setting(description: Json, name: str) -> object:
    """Return a setting of flow; warped flow has those of the flow that it was made from."""
    upstream = description.get("flow")
    if description.get(name) is None and isinstance(upstream, dict):
        return _flow_setting(upstream, name)
    return description.get(name)


def _tested(
    network: StreamNetwork,
    snippets: Snippets,
    tested: LabelledFlow,
    split: Split,
    testing: Testing,
    number: int,
    machine: Machine,
) -> SplitScores:
    labelled = tested.labelled(split.test)
    clips = stream_clips(
        tested.flow,
        labelled,
        snippets,
        sampling="test",
        transform=None,
        segments=testing.segments,
    )
    table = score_clips(
        network,
        clips,
        testing_transform(snippets, testing.crops),
        device=pick_device(machine.device),
        workers=machine.loading.workers,
    )
    first = sum(network.classes[:number])
    own = table[:, first : first + network.classes[number]]
    truth = np.array([label for _, label in labelled], np.int64)
    return SplitScores(split.name, split.test, truth, own)
