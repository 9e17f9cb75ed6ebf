"""Train a network; a killed run resumes exactly.

As TSN trains by default (Wang et al., ECCV 2016): momentum, a learning rate that falls in steps,
gradients clipped by their norm. :class:`~flowpipe.training.optimisation.Training` has the choices.

What a step does follows from the weights, the optimiser's state, and its seed, epoch and number
alone: clips, crops, dropout, mixup and skipped blocks are drawn from these. So on one CPU, with the
same number of threads, a run that resumes from a checkpoint gives the weights of an uninterrupted
run, bit for bit. Checkpoints are written atomically, and never of weights that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from flowpipe.models.pretrained import load_pretrained, save_pretrained
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.trainable import Trainable
from flowpipe.models.weights import load_model, save_model
from flowpipe.runner import atomic
from flowpipe.runner.json_files import Json
from flowpipe.training.checkpoint import (
    CHECKPOINT_NAME,
    check_same,
)
from flowpipe.training.data.sampler import Clips
from flowpipe.training.distributed import Group
from flowpipe.training.loading import DataLoading
from flowpipe.training.log import Epoch, Step, TrainingLog
from flowpipe.training.memory import kept_memory
from flowpipe.training.optimisation import Training
from flowpipe.training.run import Run

MODEL_NAME = "model.safetensors"

N = TypeVar("N", bound=Trainable)


@dataclass(frozen=True)
class ModelFile(Generic[N]):
    """How a trained network is stored.

    Attributes
    ----------
    name
        Name of the file.
    load
        Return the network in a file, and what was stored with it.
    save
        Write a network, and what is to be known of it, atomically: path, network, JSON, and the
        output folder.
    """

    name: str
    load: Callable[[Path], tuple[N, Json]]
    save: Callable[[Path, N, Json, Path], None]


SCORER = ModelFile(MODEL_NAME, load_model, save_model)
"""The file of a network that scores clips."""
AUTOENCODER = ModelFile(MODEL_NAME, load_pretrained, save_pretrained)
"""The file of a masked autoencoder."""


def train(
    network: StreamNetwork,
    clips: Clips,
    parameters: Training,
    out: Path,
    about: Json,
    *,
    group: Group | None = None,
    loading: DataLoading | None = None,
    tensorboard: bool = False,
    report: Callable[[Epoch, int], None] | None = None,
    advance: Callable[[Step], None] = lambda step: None,
) -> StreamNetwork:
    """Train a network, resume its training, or load it if it is trained.

    Writes ``model.safetensors``, ``log.csv`` and ``curves.png``; while it is under way
    ``checkpoint.npz``.

    Parameters
    ----------
    network
        As it is to begin with.
    clips
        Clips to train on, labelled with indices into the classes of all data sets. Levels, in whole
        numbers, are normalised on the network's device; floats are taken as they are.
    parameters
        Of the training.
    out
        Folder of this training alone.
    about
        JSON that is stored in the model, and must be that of the checkpoint: what else determines
        the result.
    group
        The processes that train together.
    loading
        Processes that read, and steps between checkpoints.
    tensorboard
        Also write the curves for TensorBoard, into ``tensorboard/``.
    report
        Called after each epoch with it and the number of all.
    advance
        Called after each step.

    Returns
    -------
    StreamNetwork
        Trained, on the CPU, in evaluation.

    Raises
    ------
    DivergedError
        The loss or a weight is no longer a number. The last checkpoint is kept.
    ParameterError
        An option does not apply to this network or device.
    OutOfMemoryError
        Not even a single clip fits into the memory.
    FormatError
        The checkpoint or the model in `out` is of another training, or damaged.
    """
    return train_network(
        network,
        clips,
        parameters,
        out,
        about,
        SCORER,
        group=group,
        loading=loading,
        tensorboard=tensorboard,
        report=report,
        advance=advance,
    )


def train_network(
    network: N,
    clips: Clips,
    parameters: Training,
    out: Path,
    about: Json,
    file: ModelFile[N],
    *,
    group: Group | None = None,
    loading: DataLoading | None = None,
    tensorboard: bool = False,
    report: Callable[[Epoch, int], None] | None = None,
    advance: Callable[[Step], None] = lambda step: None,
) -> N:
    """Train a network of any kind, as :func:`train` does.

    Parameters
    ----------
    network, clips, parameters, out, about, group, loading, tensorboard, report, advance
        As for :func:`train`.
    file
        How the trained network is stored.

    Raises
    ------
    DivergedError, ParameterError, OutOfMemoryError, FormatError
        As for :func:`train`.
    """
    group = group or Group(0, 1, torch.device("cpu"))
    path = out / file.name
    if path.exists():
        found, theirs = file.load(path)
        check_same(theirs, {**about, "training": asdict(parameters)}, path)
        return found.eval()
    if group.is_main:
        out.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale(out)
    run = Run(network, clips, parameters, out, about, group, loading or DataLoading())
    log = TrainingLog(out, tensorboard=tensorboard) if group.is_main else None
    devices = [group.device] if group.device.type == "cuda" else []
    memory = nullcontext() if devices else kept_memory()
    with torch.random.fork_rng(devices=devices), memory:
        run.resume()
        if log:
            log.write(run.at.epochs)
        for epoch in range(run.at.epoch, parameters.epochs):
            finished = run.one_epoch(epoch, advance if group.is_main else lambda step: None)
            if log:
                log.write(run.at.epochs)
            if group.is_main and report:
                report(finished, parameters.epochs)
        trained = run.finish()
    if group.is_main:
        whole = {**about, "training": asdict(parameters)}
        if log:
            log.close(run.at.epochs)
        file.save(path, trained, whole, out)
        (out / CHECKPOINT_NAME).unlink(missing_ok=True)
        atomic.remove_stale(out)
    group.wait()
    return trained
