"""The state of a training between two steps, and what a step does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpipe.errors import FormatError
from flowpipe.models.names import State
from flowpipe.models.trainable import Trainable
from flowpipe.runner.json_files import Json
from flowpipe.training.checkpoint import (
    CHECKPOINT_NAME,
    Position,
    load_checkpoint,
    save_checkpoint,
)
from flowpipe.training.data.datasets import input_transform
from flowpipe.training.data.sampler import BatchSampler, Clips
from flowpipe.training.distributed import Group
from flowpipe.training.faults import Losses, check_finite, is_out_of_memory, more_parts
from flowpipe.training.loading import DataLoading, batch_loader
from flowpipe.training.log import Epoch, Step
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    prepare,
    set_rate,
)
from flowpipe.training.precision import autocast, grad_scaler
from flowpipe.training.regularise import compute_statistics, mix, moving_average, trained_norms

N = TypeVar("N", bound=Trainable)


class _Heads(nn.Module):
    """Return what a network's loss is computed from."""

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Any) -> tuple[Tensor, ...]:
        """Return the scores, or whatever the network predicts."""
        return self.network.heads(clips)


class Run(Generic[N]):
    """The state of a training between two steps."""

    def __init__(
        self,
        network: N,
        clips: Clips,
        parameters: Training,
        out: Path,
        about: Json,
        group: Group,
        loading: DataLoading,
    ) -> None:
        prepare(network, parameters)
        self.network = network.to(group.device).laid_out()
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
        self.scaler = grad_scaler(group.device, parameters.amp)
        self.average = moving_average(network, parameters.ema) if parameters.ema else None
        self.at = Position(parts=parameters.accumulate)
        self.losses = Losses(every=1 if group.device.type == "cpu" else 25)
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
        self.module: nn.Module = _Heads(self.network)
        if self.group.size > 1:
            ids = [self.group.device.index] if self.group.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.module, device_ids=ids)

    def one_epoch(self, epoch: int, advance: Callable[[Step], None]) -> Epoch:
        """Train on every clip once, or on those that the interrupted epoch has left."""
        at, steps = self.at, self.batches.steps
        at.epoch = epoch
        self.batches.epoch, self.batches.first = epoch, at.step
        self.clips.set_epoch(epoch)
        self.network.train()
        sizes = self.batches.sizes()
        # Loss and right clips are added up where they are computed, without waiting for them.
        sums = torch.tensor(at.sums, dtype=torch.float64, device=self.group.device)
        began = time.perf_counter()
        for snippets, labels in self.loader:
            rate = self.parameters.lr_of_step(epoch, at.step, steps)
            set_rate(self.optimizer, rate)
            found = self._one_step(snippets, labels, sizes[at.step])
            sums += found
            self.losses.add(found[0], epoch, at.step, rate, self.out)
            at.step += 1
            advance(Step(epoch, at.step, steps, self.parameters.epochs, sizes[at.step - 1]))
            if self._is_due() and at.step < steps:
                at.sums, now = sums.tolist(), time.perf_counter()
                at.seconds += now - began
                began = now
                self._save()
        self.losses.check(self.out)
        at.seconds += time.perf_counter() - began
        total, right, count = self.group.sums(sums.tolist())
        rate = self.parameters.lr_of_step(epoch, 0, steps)
        accuracy = right / count if self.network.classes else None
        finished = Epoch(epoch + 1, rate, total / count, accuracy, at.seconds, int(count))
        self.at = Position(epoch + 1, epochs=[*at.epochs, finished], parts=at.parts)
        if self._is_due() and self.at.epoch < self.parameters.epochs:
            self._save()
        return finished

    def finish(self) -> N:
        """Return the network with its averaged weights and final statistics, on the CPU."""
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())
        if self.parameters.precise_bn:
            with autocast(self.group.device, self.parameters.amp):
                more = self._more_clips(self.parameters.precise_bn)
                compute_statistics(self.network, more, self.group)
        check_finite(self.network, self.out)
        return self.network.to("cpu").eval()

    def _more_clips(self, count: int) -> Iterator[Any]:
        """Yield batches of epochs after the last, in the parts of a step, for their memory."""
        left = count
        for epoch in itertools.count(self.parameters.epochs):
            self.at.epoch = self.batches.epoch = epoch
            self.batches.first = 0
            self.clips.set_epoch(epoch)
            for step, (snippets, _) in enumerate(self.loader):
                self.at.step = step
                torch.manual_seed(self._seed_of_step(1))
                snippets = self._input(snippets)
                for part in snippets.tensor_split(min(self.at.parts, len(snippets))):
                    yield self.network.clips(part)
                left -= 1
                if not left:
                    return

    def _is_due(self) -> bool:
        """Return whether a checkpoint is written after this number of steps."""
        steps = self.at.epoch * self.batches.steps + self.at.step
        return steps % self.loading.checkpoint_every == 0

    def _one_step(self, snippets: Tensor, labels: Tensor, batch: int) -> Tensor:
        """Take a step, in more parts if the memory asks for it; return loss, right and clips."""
        device = self.group.device
        snippets = self._input(snippets)
        labels = labels.to(device, non_blocking=True)
        targets = labels
        if self.parameters.mixup:
            rng = np.random.default_rng(self._seed_of_step(2))
            n_classes = sum(self.network.classes)
            snippets, targets = mix(snippets, labels, n_classes, self.parameters.mixup, rng)
        statistics = [x for norm in trained_norms(self.network) for x in norm.buffers()]
        before = [value.clone() for value in statistics]
        while (found := self._gradients(snippets, targets, labels, batch)) is None:
            for value, old in zip(statistics, before, strict=True):
                value.copy_(old)
            self.at.parts = more_parts(self.at.parts, len(labels), self.group.size)
        if self.parameters.grad_clip is not None:
            trained = [p for p in self.network.parameters() if p.requires_grad]
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(trained, self.parameters.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return found

    def _input(self, snippets: Tensor) -> Tensor:
        """Return a batch on the device, its levels normalised."""
        snippets = snippets.to(self.group.device, non_blocking=True)
        if snippets.is_floating_point():
            return snippets
        assert self.network.source is not None
        return input_transform(*self.network.source)(snippets, torch.Generator())

    def _gradients(
        self, snippets: Tensor, targets: Tensor, labels: Tensor, batch: int
    ) -> Tensor | None:
        """Compute the gradients of a step, or return None where the memory is too small."""
        # Dropout has its own randomness in every step and process.
        torch.manual_seed(self._seed_of_step(1))
        self.optimizer.zero_grad(set_to_none=True)
        total = right = torch.zeros((), dtype=torch.float64, device=self.group.device)
        n_parts = min(self.at.parts, len(labels))
        parts = zip(*(x.tensor_split(n_parts) for x in (snippets, targets, labels)), strict=True)
        try:
            for number, (part, wanted, own) in enumerate(parts, 1):
                # The processes exchange gradients once, after the last part.
                with self._unsynchronised(number < n_parts):
                    with autocast(self.group.device, self.parameters.amp):
                        predicted = self.module(self.network.clips(part))
                    heads = tuple(each.float() for each in predicted)
                    losses = self.network.loss(heads, wanted, self.parameters.label_smoothing)
                    # Processes' gradients are averaged; their clips may differ in number.
                    mean = losses.sum() * (self.group.size / batch)
                    self.scaler.scale(mean).backward()
                total = total + losses.detach().sum()
                if (is_right := self.network.right(heads, own)) is not None:
                    right = right + is_right.sum()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        return torch.stack([total, right, torch.full_like(total, len(labels))])

    def _unsynchronised(self, wanted: bool) -> AbstractContextManager[None]:
        if wanted and isinstance(self.module, DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()

    def _seed_of_step(self, purpose: int) -> int:
        at, rank = self.at, self.group.rank
        state = np.random.SeedSequence([self.parameters.seed, at.epoch, at.step, rank, purpose])
        return int(state.generate_state(1, np.uint64)[0] >> 1)

    def _save(self) -> None:
        self.losses.check(self.out)
        sums = self.group.sums(self.at.sums)
        if not self.group.is_main:
            return
        check_finite(self.network, self.out)
        states = {
            "network": self.network.state_dict(),
            "optimizer": optimizer_state(self.optimizer, self.network),
        }
        if self.average is not None:
            states["average"] = self.average.state_dict()
        scaler = self.scaler.state_dict()
        save_checkpoint(self.out, self.about, replace(self.at, sums=sums, scaler=scaler), states)

    def _restore(self, position: Json, states: dict[str, State]) -> None:
        at = Position.of(position)
        self.network.load_state_dict(states["network"])
        load_optimizer_state(self.optimizer, self.network, states.get("optimizer", {}))
        if self.average is not None:
            self.average.load_state_dict(states["average"])
        if at.scaler:
            self.scaler.load_state_dict(at.scaler)
        if not 0 <= at.epoch <= self.parameters.epochs or not 0 <= at.step < self.batches.steps:
            raise ValueError(f"epoch {at.epoch} and step {at.step} are not of this training")
        if not self.group.is_main:  # the main process has the sums of all
            at.sums, at.seconds = [0.0, 0.0, 0.0], 0.0
        self.at = at
