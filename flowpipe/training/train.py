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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.io.npz import load_arrays, save_arrays
from flowpipe.models.stream import StreamNetwork, loss, mask_other_sets
from flowpipe.models.weights import arrays_of, as_array, as_state, load_model, save_model
from flowpipe.runner import atomic, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.sampler import BatchSampler, Clips
from flowpipe.training.distributed import Group
from flowpipe.training.log import Epoch, TrainingLog
from flowpipe.training.parameters import Training

MODEL_NAME, CHECKPOINT_NAME = "model.safetensors", "checkpoint.npz"
START = "spawn"
"""How workers start: a fork of a process in which OpenCV has threads hangs when it uses OpenCV."""
_CHECKPOINT = "flowpipe checkpoint 1"
_MOMENTUM = "momentum/"


class DivergedError(FlowpipeError):
    """The loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class DataLoading:
    """How samples reach the network; it does not change the result.

    Attributes
    ----------
    workers
        Number of processes that read and transform clips; 0 uses this process.
    checkpoint_every
        Number of steps between checkpoints.
    """

    workers: int = 0
    checkpoint_every: int = 200


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
        _check_same(theirs, {**about, "training": asdict(parameters)}, out / MODEL_NAME)
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
            log.write(run.epochs)
        for epoch in range(run.epoch, parameters.epochs):
            finished = run.one_epoch(epoch)
            if log:
                log.write(run.epochs)
            if group.is_main and report:
                report(finished, parameters.epochs)
    trained = network.to("cpu").eval()
    if group.is_main:
        whole = {**about, "training": asdict(parameters)}
        if log:
            log.close(run.epochs)
        save_model(out / MODEL_NAME, trained, whole, out)
        (out / CHECKPOINT_NAME).unlink(missing_ok=True)
        atomic.remove_stale(out)
    group.wait()
    return trained


def parameter_groups(network: StreamNetwork, parameters: Training) -> list[dict[str, Any]]:
    """Return the weights with their multipliers of learning rate (``times``) and their decay.

    Those of tsn-pytorch: the first convolution's weight ``conv1_lr`` and its bias twice that,
    other weights 1 and biases 2, biases and normalisations without decay.
    """
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            if not weight.requires_grad:
                continue
            is_norm = isinstance(module, norms)
            times = parameters.conv1_lr if module is network.first else 1.0
            if name == "bias" and not is_norm:
                times *= 2
            decay = 0.0 if is_norm or name == "bias" else parameters.weight_decay
            groups.setdefault((times, decay), []).append(weight)
    return [
        {"params": weights, "times": times, "weight_decay": decay, "lr": parameters.lr * times}
        for (times, decay), weights in groups.items()
    ]


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
        self.optimiser = torch.optim.SGD(
            parameter_groups(network, parameters),
            lr=parameters.lr,
            momentum=parameters.momentum,
        )
        self.epoch = self.step = 0
        self.epochs: list[Epoch] = []
        self.sums = [0.0, 0.0, 0.0]
        """Loss, right clips and clips of the epoch so far, in this process."""
        self.seconds = 0.0
        self.loader = self._loader()

    def resume(self) -> None:
        """Take over the checkpoint, if there is one."""
        path = self.out / CHECKPOINT_NAME
        if path.exists():
            state, arrays = load_arrays(path, _CHECKPOINT)
            _check_same(state.get("about"), self.about, path)
            try:
                self._take_over(state, arrays)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                told = " ".join(str(error).split())
                raise FormatError(f"{str(path)!r} is not a whole checkpoint: {told}") from None
        self.group.wait()
        self.module: nn.Module = self.network
        if self.group.size > 1:
            ids = [self.group.device.index] if self.group.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.network, device_ids=ids)

    def one_epoch(self, epoch: int) -> Epoch:
        """Train on every clip once, or on those that the interrupted epoch has left."""
        self.epoch = epoch
        self.batches.epoch, self.batches.first = epoch, self.step
        self.clips.set_epoch(epoch)
        self.network.train()
        rate = self.parameters.lr_at(epoch)
        for settings in self.optimiser.param_groups:
            settings["lr"] = rate * settings["times"]
        sizes = self.batches.sizes()
        # Loss and right clips are added up where they are computed, without waiting for them.
        sums = torch.tensor(self.sums, dtype=torch.float64, device=self.group.device)
        began = time.perf_counter()
        for snippets, labels in self.loader:
            sums += self._one_step(snippets, labels, sizes[self.step])
            self.step += 1
            done = epoch * self.batches.steps + self.step
            if done % self.loading.checkpoint_every == 0 and self.step < self.batches.steps:
                self.sums, spent = sums.tolist(), time.perf_counter()
                self.seconds += spent - began
                began = spent
                self._save()
        self.seconds += time.perf_counter() - began
        total, right, count = self.group.sums(sums.tolist())
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss of epoch {epoch + 1} is {total}, with lr {rate:g}; take a smaller lr, "
                "or a smaller grad_clip"
            )
        finished = Epoch(epoch + 1, rate, total / count, right / count, self.seconds, int(count))
        self.epochs.append(finished)
        self.epoch, self.step, self.sums, self.seconds = epoch + 1, 0, [0.0, 0.0, 0.0], 0.0
        last = self.epoch == self.parameters.epochs
        if (self.epoch * self.batches.steps) % self.loading.checkpoint_every == 0 and not last:
            self._save()
        return finished

    def _one_step(self, snippets: Tensor, labels: Tensor, batch: int) -> Tensor:
        # Dropout has its own randomness in every step and process.
        torch.manual_seed(self._seed_of_step())
        device = self.group.device
        snippets = snippets.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        with autocast(device):
            scores = self.module(self.network.clips(snippets)).float()
        losses = loss(scores, labels, self.network.classes)
        self.optimiser.zero_grad(set_to_none=True)
        # Processes' gradients are averaged; their clips may differ in number.
        (losses.sum() * (self.group.size / batch)).backward()
        if self.parameters.grad_clip is not None:
            trained = [p for p in self.network.parameters() if p.requires_grad]
            nn.utils.clip_grad_norm_(trained, self.parameters.grad_clip)
        self.optimiser.step()
        right = mask_other_sets(scores, labels, self.network.classes).argmax(dim=1) == labels
        found = [losses.detach().sum(), right.sum(), torch.tensor(len(labels), device=device)]
        return torch.stack([value.double() for value in found])

    def _seed_of_step(self) -> int:
        rank = self.group.rank
        state = np.random.SeedSequence([self.parameters.seed, self.epoch, self.step, rank, 1])
        return int(state.generate_state(1, np.uint64)[0] >> 1)

    def _loader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        workers = self.loading.workers
        return DataLoader(
            cast(Dataset[Any], self.clips),
            batch_sampler=self.batches,
            num_workers=workers,
            multiprocessing_context=START if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=init_worker,
            pin_memory=self.group.device.type == "cuda",
        )

    def _save(self) -> None:
        sums = self.group.sums(self.sums)
        if not self.group.is_main or not math.isfinite(sums[0]):
            return  # of a loss that is no number, the end of the epoch says so
        arrays = arrays_of(self.network)
        arrays.update(
            (_MOMENTUM + name, as_array(self.optimiser.state[weight]["momentum_buffer"]))
            for name, weight in self.network.named_parameters()
            if "momentum_buffer" in self.optimiser.state.get(weight, {})
        )
        state = {
            "about": self.about,
            "epoch": self.epoch,
            "step": self.step,
            "sums": sums,
            "seconds": self.seconds,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        save_arrays(self.out / CHECKPOINT_NAME, _CHECKPOINT, state, arrays, self.out)

    def _take_over(self, state: Json, arrays: dict[str, Any]) -> None:
        momentum = {
            name.removeprefix(_MOMENTUM): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(_MOMENTUM)
        }
        self.network.load_state_dict(as_state(arrays))
        by_name = dict(self.network.named_parameters())
        for name, tensor in as_state(momentum).items():
            if tensor.shape != by_name[name].shape:
                raise ValueError(f"the momentum of {name} is {tuple(tensor.shape)}")
            self.optimiser.state[by_name[name]]["momentum_buffer"] = tensor.to(self.group.device)
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        if not 0 <= self.epoch <= self.parameters.epochs or not 0 <= self.step < self.batches.steps:
            raise ValueError(f"epoch {self.epoch} and step {self.step} are not of this training")
        if self.group.is_main:  # it holds the sums of all processes
            self.sums = [float(value) for value in state["sums"]]
            self.seconds = float(state["seconds"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Half the bits where the device has bfloat16 of its own, whose range needs no loss scaling."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def init_worker(number: int) -> None:
    """One thread for OpenCV too, as torch has it in its workers."""
    import cv2

    cv2.setNumThreads(1)


def _check_same(theirs: Any, ours: Json, path: Path) -> None:
    differ = provenance.differences(theirs, ours)
    if differ:
        raise FormatError(
            f"{str(path)!r} is of another training ({'; '.join(map(str, differ[:4]))}); "
            "take another folder, or remove it"
        )
