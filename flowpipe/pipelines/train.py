"""Train the networks of one stream on a labelled set, split by split."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.splits import FINAL
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import record_dataset
from flowpipe.models import MODELS
from flowpipe.models.cost import check_input
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weight_names import identity
from flowpipe.models.weights import initialise, read_about
from flowpipe.pipelines.labelled import LabelledFlow, labelled_flow, with_usable_clips
from flowpipe.pipelines.seen_clips import started_stream
from flowpipe.pipelines.training_progress import TrainingProgress
from flowpipe.report.curves import Curve
from flowpipe.runner import atomic, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.datasets import stream_clips, training_transform
from flowpipe.training.data.sampler import ConcatClips
from flowpipe.training.distributed import pick_device, process_group
from flowpipe.training.loading import DataLoading
from flowpipe.training.log import LOG_NAME
from flowpipe.training.optimizers import prepare
from flowpipe.training.parameters import Preset, Stream, preset
from flowpipe.training.precision import autocast
from flowpipe.training.runtime import TrainingRuntime
from flowpipe.training.train import MODEL_NAME
from flowpipe.training.train import train as train_network

logger = logging.getLogger(__name__)


def train(
    dataset: Dataset | str | PathLike[str],
    flow: str | PathLike[str],
    out: str | PathLike[str] = "stream",
    stream: Stream | Preset = "tsn",
    *,
    protocol: Protocol | str | None = None,
    splits: Sequence[str] = (),
    final: bool = False,
    runtime: TrainingRuntime | None = None,
    leave_out_unusable: bool = False,
    **options: Any,
) -> list[Path]:
    """Train the networks of one stream, one for each split.

    An interrupted run resumes from its last checkpoint; with the same weights, data and number of
    threads, a CPU gives the same network bit for bit.

    Parameters
    ----------
    dataset
        The labelled set, or its folder or list.
    flow
        Output folder of :func:`flowpipe.extract_flow` (with ``frames=True`` for ``rgb``), or flow
        of another tool.
    out
        The output folder: for each split a folder with ``model.safetensors``, ``log.csv`` and
        ``curves.png``.
    stream
        What is trained, or the name of a preset: ``tsn``, ``published`` as the authors of the
        chosen model train it, ``two-stream``, ``finetune`` from weights of ImageNet or Kinetics to
        sets of the size of UCF101, or ``small`` for sets of hundreds of clips and machines without
        a GPU.
    protocol
        Which clips train; by default the official splits, or leave one group out.
    splits
        Names of the splits to train for; by default all.
    final
        Also train a network on all clips, for new videos; see :func:`flowpipe.load_classifier`.
    runtime
        Device, data loading, checkpoints.
    leave_out_unusable
        Leave out clips that are missing, too short or damaged, which are logged, in place of an
        error.
    **options
        Changes of single parameters of `stream`, such as ``modality="rgb"``, ``model="tsm"``,
        ``backbone="resnet18"`` or ``epochs=30``.

    Returns
    -------
    list of Path
        The files of the trained networks, in the order of the splits.

    Raises
    ------
    StageMismatchError
        The folder holds networks of other parameters.
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed, and nothing is trained.

    Notes
    -----
    L. Wang et al., "Temporal Segment Networks", ECCV 2016; K. Simonyan and A. Zisserman,
    "Two-Stream Convolutional Networks for Action Recognition in Videos", NIPS 2014.

    Examples
    --------
    >>> import flowpipe
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> models = flowpipe.train(
    ...     "videos", "flow", "stream", "small", splits=["split1"], **options
    ... )
    >>> [str(path) for path in models]
    ['stream/01-split1/model.safetensors']
    """
    labelled = labelled_flow(dataset, flow, protocol)
    if not isinstance(stream, Stream):
        stream = preset(stream, options.get("modality", "flow"), options.get("model", "tsn"))
    stream = stream.changed(**options)
    return train_networks(
        [labelled],
        stream,
        Path(out),
        splits=splits,
        final=final,
        runtime=runtime,
        leave_out_unusable=leave_out_unusable,
    )


def train_networks(
    sets: Sequence[LabelledFlow],
    stream: Stream,
    out: Path,
    *,
    splits: Sequence[str] = (),
    final: bool = False,
    runtime: TrainingRuntime | None = None,
    leave_out_unusable: bool = False,
) -> list[Path]:
    """Train the networks of a stream, one for each split, on one set or on several.

    Several processes that ``torchrun`` started train each network together.

    Parameters
    ----------
    sets
        The set; and others that share the network except for its last layer (multi-task
        learning). They must have splits of the same names.
    stream, out, splits, final, runtime, leave_out_unusable
        As for :func:`train`.

    Returns
    -------
    list of Path
        The files of the trained networks.

    Raises
    ------
    StageMismatchError, UnusableClipsError
        As for :func:`train`.
    """
    runtime = runtime or TrainingRuntime()
    names = [split.name for split in sets[0].chosen(splits)] + [FINAL] * final
    sets = [
        with_usable_clips(each, names, stream.clip, leave_out=leave_out_unusable) for each in sets
    ]
    description = description_of(sets, stream)
    chosen = [sets[0].split(name) for name in names]
    started = {split.name: started_stream(stream, sets, split) for split in chosen}
    if not all((sets[0].folder(split, out) / MODEL_NAME).exists() for split in chosen):
        classes = [len(each.protocol.classes) for each in sets]
        check_network(next(iter(started.values())), classes, runtime.device)
        warn_of_random_weights(stream)
    models = []
    with process_group(runtime.device) as group:
        provenance.open_stage(out, description)
        if group.is_main:
            record_dataset(sets[0].dataset, out)
        if group.is_main and len(chosen) > 1:
            logger.info(f"{len(chosen)} splits, a network for each")
        for split in chosen:
            folder = sets[0].folder(split, out)
            models.append(folder / MODEL_NAME)
            clips = _training_clips(sets, split.name, stream)
            about = {
                "split": split.name,
                "classes": [list(each.protocol.classes) for each in sets],
                "trained_classes": [_trained(each, split.name) for each in sets],
                "labels": provenance.digest(
                    [each.labelled(each.split(split.name).train) for each in sets]
                ),
                "splits": [each.identity(split.name) for each in sets],
                "stream": description,
            }
            if (own := started[split.name]) != stream:
                about["weights"] = [
                    identity(each) for each in (own.weights, own.flow_weights or "")
                ]
            if group.is_main:
                _discard_other_labels(folder, split.name, about)
            group.wait()
            if group.is_main and not models[-1].exists():
                kind = stream.network.model
                kind += f", {stream.network.backbone}" * MODELS[kind].has_backbone
                logger.info(f"{split.name}: {len(clips)} clips, {kind}")
            elif group.is_main:
                logger.info(f"{split.name}: trained already")
            classes = [len(each.protocol.classes) for each in sets]
            network = _network(own, classes, begin=not models[-1].exists())
            progress = TrainingProgress(split.name)
            train_network(
                network,
                clips,
                stream.training,
                folder,
                about,
                group=group,
                loading=DataLoading(runtime.workers, runtime.checkpoint_every),
                tensorboard=runtime.tensorboard,
                report=progress.finish_epoch,
                advance=progress.advance,
            )
        if group.is_main:
            atomic.remove_stale(out)
    return models


def warn_of_random_weights(stream: Stream) -> None:
    """Log where a published recipe is followed without the weights that it begins with."""
    network = stream.network
    entry = MODELS[network.model]
    recipe = entry.recipe
    flow_weights = stream.weights if stream.flow_weights is None else stream.flow_weights
    if entry.takes == "both" and not Path(flow_weights).exists():
        logger.warning(
            f"the stream of flow begins with weights {flow_weights!r}, which were not trained on "
            "flow; the authors train both streams alone first: name their folders (--weights, "
            "--flow-weights)"
        )
    if stream.weights != "none" or recipe is None or recipe.on.endswith("from scratch"):
        return
    if stream.training == preset("published", stream.clip.modality, network.model).training:
        source = MODELS[network.model].weights or "no public ones are known"
        logger.warning(
            f"{network.model} begins with random weights here; the recipe is for {recipe.on}. "
            f"Initial weights (--weights): {source}"
        )


def _trained(labelled: LabelledFlow, split: str) -> list[int]:
    """Return the classes with training clips."""
    return sorted({label for _, label in labelled.labelled(labelled.split(split).train)})


def _network(stream: Stream, classes: Sequence[int], *, begin: bool = True) -> StreamNetwork:
    """Return the network of a stream, with its initial weights if it is to begin."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream.training.seed)
        network = StreamNetwork(stream.network, stream.clip, classes)
        if begin:
            initialise(network, stream.weights, stream.flow_weights)
    return network


def check_network(stream: Stream, classes: Sequence[int], device: str) -> None:
    """Check what can be checked of a network before anything is recorded.

    Parameters
    ----------
    stream
        What is to be trained; its weights are not those of a folder of train.
    classes
        Number of classes of each set.
    device
        The device.

    Raises
    ------
    ParameterError
        The network cannot take such clips, or an option of training does not apply to it.
    FormatError
        The initial weights are of another network.
    BackendUnavailableError
        They cannot be downloaded.
    """
    check_input(stream.network, stream.clip)
    with autocast(pick_device(device), stream.training.amp):
        prepare(_network(stream, classes), stream.training)


def description_of(sets: Sequence[LabelledFlow], stream: Stream) -> Json:
    """Return the record of trained networks."""
    return {**described(stream), "sets": [each.description() for each in sets]}


def described(stream: Stream) -> Json:
    """Return the record of a stream, in which its initial weights are told apart."""
    weights = {"weights": stream.weights, "flow_weights": stream.flow_weights}
    return {
        **stream.description(),
        **{name: _source(given) for name, given in weights.items() if given is not None},
    }


def _source(weights: str) -> object:
    """Return what tells initial weights apart; of a folder of train, how it was trained."""
    return provenance.read_stage(Path(weights)) if Path(weights).is_dir() else identity(weights)


def _discard_other_labels(folder: Path, split: str, about: Json) -> None:
    """Remove a network whose training clips have other labels now."""
    model = folder / MODEL_NAME
    if model.exists() and read_about(model).get("labels") != about["labels"]:
        logger.info(f"{split}: labels of training clips have changed; it is trained again")
        model.unlink()


def training_seconds(models: Path) -> float:
    """Return the sum of the durations in the logs of trained networks."""
    total = 0.0
    for path in sorted(models.glob(f"*/{LOG_NAME}")):
        with path.open(newline="") as file:
            total += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return total


def training_curves(models: Path) -> list[Curve]:
    """Return loss and accuracy of every epoch, from the logs of trained networks."""
    curves: list[Curve] = []
    for path in sorted(models.glob(f"*/{LOG_NAME}")):
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            curves.append([(float(row["loss"]), float(row["accuracy"])) for row in rows])
    return curves


def _training_clips(sets: Sequence[LabelledFlow], split: str, stream: Stream) -> ConcatClips:
    opened = [
        stream_clips(
            each.flow,
            each.clips(each.split(split).train),
            stream.clip,
            sampling="random",
            transform=training_transform(stream.clip),
            seed=stream.training.seed,
        )
        for each in sets
    ]
    return ConcatClips(opened, [len(each.protocol.classes) for each in sets])
