"""Train a detector on windows of features; a killed run resumes exactly.

The loss is that of OadTR (X. Wang et al., ICCV 2021): the cross-entropy of the present step, and
half of that of the steps that follow. Shares of several classes are the target of a step that has
them; steps without a target count for nothing.

What a step of the training does follows from the weights, the optimiser's state, and its seed,
epoch and number, as in :mod:`flowpipe.training.train`: a run on one CPU that resumes gives the
weights of one that was not interrupted, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from flowpipe.errors import FormatError
from flowpipe.models.detector_networks import Standardised
from flowpipe.models.detectors import DETECTOR_NAME, make_detector
from flowpipe.models.names import State
from flowpipe.runner import atomic
from flowpipe.runner.json_files import Json
from flowpipe.training.checkpoint import (
    CHECKPOINT_NAME,
    Position,
    check_same,
    load_checkpoint,
    save_checkpoint,
)
from flowpipe.training.data.sampler import BatchSampler
from flowpipe.training.detection.files import (
    TrainedDetector,
    load_detector_file,
    save_detector,
)
from flowpipe.training.detection.parameters import DetectorTraining
from flowpipe.training.detection.windows import StepWindows
from flowpipe.training.faults import Losses, check_finite
from flowpipe.training.log import Epoch, Step, TrainingLog
from flowpipe.training.optimizers import load_optimizer_state, optimizer_state


def soft_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the rows that have a target.

    Parameters
    ----------
    scores
        (..., classes) before the softmax.
    targets
        (..., classes) shares of the classes, which sum to 1, or all 0 for no target.

    Examples
    --------
    >>> scores = torch.zeros(2, 4)
    >>> targets = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> round(float(soft_cross_entropy(scores, targets).exp()), 4)
    4.0
    """
    rows = -(targets * scores.log_softmax(dim=-1)).sum(dim=-1)
    counted = (targets.sum(dim=-1) > 0).sum().clamp(min=1)
    mean: Tensor = rows.sum() / counted
    return mean


def train_windows(
    windows: StepWindows,
    n_features: int,
    classes: tuple[str, ...],
    parameters: DetectorTraining,
    out: Path,
    about: Json,
    *,
    device: torch.device | None = None,
    checkpoint_every: int = 200,
    advance: Callable[[Step], None] = lambda step: None,
    report: Callable[[Epoch, int], None] = lambda epoch, count: None,
) -> TrainedDetector:
    """Train a detector, resume its training, or load it if it is trained.

    Writes ``detector.safetensors``, ``log.csv`` and ``curves.png``; while it is under way
    ``checkpoint.npz``.

    Parameters
    ----------
    windows
        What is learnt.
    n_features, classes
        Size of a step's feature; class names without the background.
    parameters
        Of the detector and its training.
    out
        Folder of this training alone.
    about
        JSON that is stored with the detector, and must be that of the checkpoint.
    device
        Where the detector is trained.
    checkpoint_every
        Number of steps between checkpoints.
    advance, report
        Called after each step; after each epoch with it and the number of all.

    Raises
    ------
    DivergedError
        The loss or a weight is no longer a number.
    FormatError
        The checkpoint or the detector in `out` is of another training, or damaged.
    """
    path = out / DETECTOR_NAME
    if path.exists():
        found = load_detector_file(path)
        check_same(found.about, about, path)
        return found
    out.mkdir(parents=True, exist_ok=True)
    atomic.remove_stale(out)
    run = _Run(
        windows, n_features, classes, parameters, out, about, device or torch.device("cpu"),
        checkpoint_every,
    )  # fmt: skip
    log = TrainingLog(out)
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        run.resume()
        log.write(run.at.epochs)
        for epoch in range(run.at.epoch, parameters.epochs):
            finished = run.one_epoch(epoch, advance)
            log.write(run.at.epochs)
            report(finished, parameters.epochs)
    check_finite(run.network, out)
    log.close(run.at.epochs)
    made_of = {
        "model": parameters.model,
        "n_features": n_features,
        "classes": list(classes),
        "options": parameters.options(),
        "standardise": parameters.standardise,
    }
    save_detector(path, run.network, made_of, about, out)
    (out / CHECKPOINT_NAME).unlink(missing_ok=True)
    atomic.remove_stale(out)
    return load_detector_file(path)


class _Run:
    """The state of a training between two steps."""

    def __init__(
        self,
        windows: StepWindows,
        n_features: int,
        classes: tuple[str, ...],
        parameters: DetectorTraining,
        out: Path,
        about: Json,
        device: torch.device,
        checkpoint_every: int,
    ) -> None:
        self.windows, self.parameters, self.out = windows, parameters, out
        self.about, self.device, self._every = about, device, checkpoint_every
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(parameters.seed)
            network = make_detector(
                parameters.model,
                n_features,
                len(classes) + 1,
                parameters.options(),
                standardise=parameters.standardise,
            )
        if isinstance(network, Standardised):
            network.measure(windows.features)
        self.network = network.to(device)
        self.batches = BatchSampler(windows.labels, parameters.batch_size, parameters.seed)
        self.optimizer = torch.optim.Adam(
            network.parameters(), parameters.lr, weight_decay=parameters.weight_decay
        )
        self.at = Position()
        self.losses = Losses(every=1 if device.type == "cpu" else 25)

    def resume(self) -> None:
        """Take over the checkpoint, if there is one."""
        if stored := load_checkpoint(self.out, self.about):
            try:
                self._restore(*stored)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                path, reason = str(self.out / CHECKPOINT_NAME), " ".join(str(error).split())
                raise FormatError(f"{path!r} is not a whole checkpoint: {reason}") from None

    def one_epoch(self, epoch: int, advance: Callable[[Step], None]) -> Epoch:
        """Train on every window once, or on those that the interrupted epoch has left."""
        at, steps, sizes = self.at, self.batches.steps, self.batches.sizes()
        at.epoch = epoch
        self.batches.epoch, self.batches.first = epoch, at.step
        rate = self.parameters.lr_of_epoch(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        sums = torch.tensor(at.sums, dtype=torch.float64, device=self.device)
        began = time.perf_counter()
        for indices in self.batches:
            found = self._one_step(indices)
            sums += found
            self.losses.add(found[0], epoch, at.step, rate, self.out)
            at.step += 1
            advance(Step(epoch, at.step, steps, self.parameters.epochs, sizes[at.step - 1]))
            if self._is_due() and at.step < steps:
                at.sums, now = sums.tolist(), time.perf_counter()
                at.seconds, began = at.seconds + now - began, now
                self._save()
        self.losses.check(self.out)
        at.seconds += time.perf_counter() - began
        total, right, count = sums.tolist()
        finished = Epoch(epoch + 1, rate, total / count, right / count, at.seconds, int(count))
        self.at = Position(epoch + 1, epochs=[*at.epochs, finished])
        if self._is_due() and self.at.epoch < self.parameters.epochs:
            self._save()
        return finished

    def _one_step(self, indices: list[int]) -> Tensor:
        """Take a step; return the loss, and the windows that were right, of all, and all."""
        torch.manual_seed(self._seed_of_step())
        features, now, future = (x.to(self.device) for x in self.windows.batch(indices))
        self.optimizer.zero_grad(set_to_none=True)
        scores = self.network(features)
        loss = soft_cross_entropy(scores.now, now)
        if scores.future.shape[1]:
            ahead = soft_cross_entropy(scores.future, future)
            loss = loss + self.parameters.weight_of_future * ahead
        loss.backward()
        if self.parameters.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.parameters.grad_clip)
        self.optimizer.step()
        best = scores.now.detach().argmax(dim=1, keepdim=True)
        right = (now.gather(1, best) > 0).sum()
        count = torch.full_like(right, len(indices))
        return torch.stack([loss.detach() * len(indices), right, count]).double()

    def _is_due(self) -> bool:
        return (self.at.epoch * self.batches.steps + self.at.step) % self._every == 0

    def _seed_of_step(self) -> int:
        state = np.random.SeedSequence([self.parameters.seed, self.at.epoch, self.at.step])
        return int(state.generate_state(1, np.uint64)[0] >> 1)

    def _save(self) -> None:
        self.losses.check(self.out)
        check_finite(self.network, self.out)
        states: dict[str, State] = {
            "network": self.network.state_dict(),
            "optimizer": optimizer_state(self.optimizer, self.network),
        }
        save_checkpoint(self.out, self.about, replace(self.at), states)

    def _restore(self, position: Json, states: dict[str, State]) -> None:
        at = Position.of(position)
        self.network.load_state_dict(states["network"])
        load_optimizer_state(self.optimizer, self.network, states.get("optimizer", {}))
        if not 0 <= at.epoch <= self.parameters.epochs or not 0 <= at.step < self.batches.steps:
            raise ValueError(f"epoch {at.epoch} and step {at.step} are not of this training")
        self.at = at
