"""Draw and read snippets of labelled clips, as torch data sets do.

A sample is ``segments`` snippets of one clip. What is drawn at random follows from seed, epoch and
index alone: neither the number of workers, nor their start method, nor an interruption changes it.
Clips are opened when they are read, a few at a time in each process; the members of a snippet are
all that is read of a zip beside its directory.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import FlowReader, StoredClip
from flowpipe.models.clip_input import ShortClips
from flowpipe.training.data import clip_index, sampling
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.views import Compose, Cutter, RandomView, Transform, View

_OPEN = 8
"""Clips that a process keeps open."""
_WHOLE = 250
"""Fields or frames that a network sees at once of a whole clip: those of I3D's clips of 10 s."""


class SampledClips(Dataset[tuple[Tensor, int]]):
    """Hold what flow and frames have in common: sampling, randomness, open clips."""

    _frames_only = False

    def __init__(
        self,
        source: Path | str,
        clips: Sequence[tuple[str | Clip, int]],
        *,
        segments: int,
        length: int,
        sampling_: Sampling,
        transform: Transform | None,
        seed: int,
        bound: float,
        frame_stride: int,
        short_clips: ShortClips,
        test_clips: int,
    ) -> None:
        if seed < 0:
            raise ParameterError(f"seed is {seed}; it must be 0 or more")
        for name, value in (("frame_stride", frame_stride), ("test_clips", test_clips)):
            if value < 1:
                raise ParameterError(f"{name} is {value}; it must be 1 or more")
        if short_clips not in get_args(ShortClips):
            raise ParameterError(
                f"short_clips is {short_clips!r}; it must be one of "
                f"{', '.join(get_args(ShortClips))}"
            )
        if test_clips > 1 and sampling_ != "centre":
            raise ParameterError(
                f"test_clips is {test_clips}; it applies to the sampling 'centre', and sampling is "
                f"{sampling_!r}"
            )
        self.source = Path(source)
        self.names = [clip if isinstance(clip, str) else clip.name for clip, _ in clips]
        self.labels = [int(label) for _, label in clips]
        self.segments, self.length, self.sampling = segments, length, sampling_
        self.transform, self.seed, self.bound = transform, seed, bound
        self.frame_stride, self.short_clips, self.test_clips = frame_stride, short_clips, test_clips
        self._span = 1 + (length - 1) * frame_stride
        sampling.starts(sampling_, length, segments, length, np.random.default_rng(0))  # in range?
        self._clips = clip_index.checked(
            self.source,
            [clip for clip, _ in clips],
            self._usable_length,
            self._open_clip,
            frames_only=self._frames_only,
        )
        # Shared, so that it reaches the workers that a loader keeps from epoch to epoch.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()
        self._open: OrderedDict[int, FlowReader] = OrderedDict()
        self._process = os.getpid()
        self._cutter = Cutter()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.names)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0: random snippets and transforms are drawn again.

        To be called before the loader is iterated over.
        """
        self._epoch.fill_(epoch)

    def starts(self, index: int) -> NDArray[np.int64]:
        """First field or frame of each snippet of clip ``index`` in this epoch, counted from 0."""
        return self._snippets(index, self._rng(index))[:, 0]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the snippets of clip ``index``, transformed, and its class.

        Raises
        ------
        FormatError
            The clip is not what it was when the data set was made. It is named.
        """
        snippets, generator = self.draw(index)
        transform, view = self.transform, None
        steps = transform.transforms if isinstance(transform, Compose) else ()
        if steps and isinstance(steps[0], RandomView):
            meta = self._reader(index).meta
            view = steps[0].draw(meta.height, meta.width, generator)
            transform = Compose(steps[1:])
        levels = torch.from_numpy(self.levels(index, snippets, view))
        if transform is not None:
            levels = transform(levels, generator)
        return levels, self.labels[index]

    def draw(self, index: int) -> tuple[NDArray[np.int64], torch.Generator]:
        """Return what is read of clip ``index`` in this epoch, and its transform's generator.

        Returns
        -------
        snippets : (segments, length) int64
            Numbers of fields or frames, from 0.
        generator
            Of the random numbers of the transform.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} clips; asked for {index}")
        rng = self._rng(index)
        snippets = self._snippets(index, rng)
        return snippets, torch.Generator().manual_seed(int(rng.integers(1 << 63)))

    def levels(
        self, index: int, snippets: NDArray[np.int64], view: View | None = None
    ) -> NDArray[Any]:
        """Return fields or frames of clip ``index``, or what a view shows of them.

        Parameters
        ----------
        index
            Of the clip.
        snippets : (segments, length) int64
            Numbers of the fields or frames.
        view
            What is seen; None for all.

        Returns
        -------
        (segments, C, H, W)
        """
        return self._read(index, snippets, view)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the open files."""
        return {**self.__dict__, "_open": OrderedDict()}

    @abstractmethod
    def _usable_length(self, reader: FlowReader) -> int:
        """Fields or frames that snippets can begin with and go through."""

    @abstractmethod
    def _read(
        self, index: int, snippets: NDArray[np.int64], view: View | None
    ) -> NDArray[np.generic]:
        """See :meth:`levels`."""

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self._epoch), index])

    def _snippets(self, index: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the fields or frames of each snippet, (segments, length)."""
        _, n = self._clips[index]
        # A clip that is too short has one start, and is continued.
        usable, length, span = max(n, self._span), self.length, self._span
        if self.sampling == "whole":
            length = min(-(-usable // self.frame_stride), max(_WHOLE, length))
            span = 1 + (length - 1) * self.frame_stride
        starts = sampling.starts(self.sampling, usable, self.segments, span, rng, self.test_clips)
        return sampling.snippets(starts, length, self.frame_stride, n, self.short_clips)

    def _open_clip(self, clip: StoredClip) -> FlowReader:
        return FlowReader(clip, bound=self.bound)

    def _reader(self, index: int) -> FlowReader:
        if self._process != os.getpid():  # forked: files that are shared share their position
            self._process, self._open = os.getpid(), OrderedDict()
        reader = self._open.pop(index, None)
        if reader is None:
            reader = self._open_clip(self._clips[index][0])
        self._open[index] = reader
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return reader

    def _check_length(self, length: int, of: str) -> int:
        fewest = self._span if self.short_clips == "refuse" else 1
        if length < fewest:
            raise FormatError(f"{length} {of}; a snippet takes {fewest}")
        return length
