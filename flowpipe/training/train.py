"""Train a network by stochastic gradient descent; a killed run resumes exactly.

As TSN trains (Wang et al., ECCV 2016; the multipliers of tsn-pytorch): momentum, a learning rate
that falls in steps, a larger one for a first convolution that was made from RGB's, twice the rate
and no decay for biases, gradients clipped by their norm.

What a step does follows from the weights, the momentum, and its seed, epoch and number alone:
clips, crops and dropout are drawn from these. So on one CPU, with the same number of threads, a run
that resumes from a checkpoint gives the weights of an uninterrupted run, bit for bit. Checkpoints
are written atomically.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.models.names import State
from flowpipe.models.stream import StreamNetwork, loss, mask_other_sets
from flowpipe.models.weights import load_model, save_model
from flowpipe.runner import atomic
from flowpipe.runner.json_files import Json
from flowpipe.training.checkpoint import (
    CHECKPOINT_NAME,
    Position,
    check_same,
    load_checkpoint,
    save_checkpoint,
)
from flowpipe.training.data.sampler import BatchSampler, Clips
from flowpipe.training.distributed import Group
from flowpipe.training.loading import DataLoading, batch_loader
from flowpipe.training.log import Epoch, TrainingLog
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_rate,
)
from flowpipe.training.precision import autocast

MODEL_NAME = "model.safetensors"


class DivergedError(FlowpipeError):
    """The loss is no longer a number."""


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
) -> StreamNetwork:
    """Train a network, resume its training, or load it if it is trained.

    Writes ``model.safetensors``, ``log.csv`` and ``curves.png``; while it is under way
    ``checkpoint.npz``.

    Parameters
    ----------
    network
        As it is to begin with.
    clips
        Clips to train on, labelled with indices into the classes of all data sets.
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

    Returns
    -------
    StreamNetwork
        Trained, on the CPU, in evaluation.

    Raises
    ------
    DivergedError
        The loss is no longer a number.
    FormatError
        The checkpoint or the model in `out` is of another training, or damaged.
    """
    group = group or Group(0, 1, torch.device("cpu"))
    if (out / MODEL_NAME).exists():
        found, theirs = load_model(out / MODEL_NAME)
        check_same(theirs, {**about, "training": asdict(parameters)}, out / MODEL_NAME)
        return found.eval()
    if group.is_main:
        out.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale(out)
    run = _Run(network, clips, parameters, out, about, group, loading or DataLoading())
    log = TrainingLog(out, tensorboard=tensorboard) if group.is_main else None
    devices = [group.device] if group.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        run.resume()
        if log:
            log.write(run.at.epochs)
        for epoch in range(run.at.epoch, parameters.epochs):
            finished = run.one_epoch(epoch)
            if log:
                log.write(run.at.epochs)
            if group.is_main and report:
                report(finished, parameters.epochs)
    trained = network.to("cpu").eval()
    if group.is_main:
        whole = {**about, "training": asdict(parameters)}
        if log:
            log.close(run.at.epochs)
        save_model(out / MODEL_NAME, trained, whole, out)
        (out / CHECKPOINT_NAME).unlink(missing_ok=True)
        atomic.remove_stale(out)
    group.wait()
    return trained


class _Run:
    """The state of a training between two steps."""

    def __init__(
        self,
        network: StreamNetwork,
        clips: Clips,
        parameters: Training,
        out: Path,
        about: Json,
        group: Group,
        loading: DataLoading,
    ) -> None:
        # Convolutions are faster with channels last.
        self.network = network.to(group.device).channels_last()
        self.clips, self.parameters = clips, parameters
        self.out, self.group, self.loading = out, group, loading
        self.about = {**about, "training": asdict(parameters)}
        self.batches = BatchSampler(
            clips.labels,
            parameters.batch_size,
            parameters.seed,
            spread=parameters.balanced_batches,
            rank=group.rank,
            world=group.size,
        )
        self.optimizer = make_optimizer(network, parameters)
        self.at = Position()
        pin = group.device.type == "cuda"
        self.loader = batch_loader(clips, self.batches, loading.workers, pin=pin)

    def resume(self) -> None:
        """Take over the checkpoint, if there is one."""
        if stored := load_checkpoint(self.out, self.about):
            try:
                self._restore(*stored)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                path, reason = str(self.out / CHECKPOINT_NAME), " ".join(str(error).split())
                raise FormatError(f"{path!r} is not a whole checkpoint: {reason}") from None
        self.group.wait()
        self.module: nn.Module = self.network
        if self.group.size > 1:
            ids = [self.group.device.index] if self.group.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.network, device_ids=ids)

    def one_epoch(self, epoch: int) -> Epoch:
        """Train on every clip once, or on those that the interrupted epoch has left."""
        at = self.at
        at.epoch = epoch
        self.batches.epoch, self.batches.first = epoch, at.step
        self.clips.set_epoch(epoch)
        self.network.train()
        rate = self.parameters.lr_at(epoch)
        set_rate(self.optimizer, rate)
        sizes = self.batches.sizes()
        # Loss and right clips are added up where they are computed, without waiting for them.
        sums = torch.tensor(at.sums, dtype=torch.float64, device=self.group.device)
        began = time.perf_counter()
        for snippets, labels in self.loader:
            sums += self._one_step(snippets, labels, sizes[at.step])
            at.step += 1
            if self._is_due() and at.step < self.batches.steps:
                at.sums, now = sums.tolist(), time.perf_counter()
                at.seconds += now - began
                began = now
                self._save()
        at.seconds += time.perf_counter() - began
        total, right, count = self.group.sums(sums.tolist())
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss of epoch {epoch + 1} is {total}, with lr {rate:g}; take a smaller lr, "
                "or a smaller grad_clip"
            )
        finished = Epoch(epoch + 1, rate, total / count, right / count, at.seconds, int(count))
        self.at = Position(epoch + 1, epochs=[*at.epochs, finished])
        if self._is_due() and self.at.epoch < self.parameters.epochs:
            self._save()
        return finished

    def _is_due(self) -> bool:
        """Return whether a checkpoint is written after this number of steps."""
        steps = self.at.epoch * self.batches.steps + self.at.step
        return steps % self.loading.checkpoint_every == 0

    def _one_step(self, snippets: Tensor, labels: Tensor, batch: int) -> Tensor:
        # Dropout has its own randomness in every step and process.
        torch.manual_seed(self._seed_of_step())
        device = self.group.device
        snippets = snippets.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        with autocast(device):
            scores = self.module(self.network.clips(snippets)).float()
        losses = loss(scores, labels, self.network.classes)
        self.optimizer.zero_grad(set_to_none=True)
        # Processes' gradients are averaged; their clips may differ in number.
        (losses.sum() * (self.group.size / batch)).backward()
        if self.parameters.grad_clip is not None:
            trained = [p for p in self.network.parameters() if p.requires_grad]
            nn.utils.clip_grad_norm_(trained, self.parameters.grad_clip)
        self.optimizer.step()
        right = mask_other_sets(scores, labels, self.network.classes).argmax(dim=1) == labels
        found = [losses.detach().sum(), right.sum(), torch.tensor(len(labels), device=device)]
        return torch.stack([value.double() for value in found])

    def _seed_of_step(self) -> int:
        at, rank = self.at, self.group.rank
        state = np.random.SeedSequence([self.parameters.seed, at.epoch, at.step, rank, 1])
        return int(state.generate_state(1, np.uint64)[0] >> 1)

    def _save(self) -> None:
        sums = self.group.sums(self.at.sums)
        if not self.group.is_main or not math.isfinite(sums[0]):
            return  # of a loss that is no number, the end of the epoch says so
        states = {
            "network": self.network.state_dict(),
            "optimizer": optimizer_state(self.optimizer, self.network),
        }
        save_checkpoint(self.out, self.about, replace(self.at, sums=sums), states)

    def _restore(self, position: Json, states: dict[str, State]) -> None:
        at = Position.of(position)
        self.network.load_state_dict(states["network"])
        load_optimizer_state(self.optimizer, self.network, states.get("optimizer", {}))
        if not 0 <= at.epoch <= self.parameters.epochs or not 0 <= at.step < self.batches.steps:
            raise ValueError(f"epoch {at.epoch} and step {at.step} are not of this training")
        if not self.group.is_main:  # the main process has the sums of all
            at.sums, at.seconds = [0.0, 0.0, 0.0], 0.0
        self.at = at
