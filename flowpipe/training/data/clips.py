"""Flow stacks and frames as torch data sets, straight from what ``extract-flow`` left on disk.

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
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import FlowReader, StoredClip
from flowpipe.io import video
from flowpipe.io.source import resized
from flowpipe.models.clip_input import ShortClips, Stacking
from flowpipe.training.data import clip_index, sampling
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.stacks import read_stack
from flowpipe.training.data.views import Compose, Cutter, RandomView, Transform, View

_OPEN = 8
"""Clips that a process keeps open."""
_WHOLE = 250
"""Fields or frames that a network sees at once of a whole clip: those of I3D's clips of 10 s."""


class _Clips(Dataset[tuple[Tensor, int]]):
    """What flow and frames have in common: sampling, randomness, open clips."""

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


class FlowClips(_Clips):
    """Stacks of flow of labelled clips.

    Parameters
    ----------
    source
        Folder of flow in any layout, flowpipe's or another tool's; warped flow is such a folder.
    clips
        (clip, class index) of each clip: its name, or a clip of a
        :class:`~flowpipe.datasets.base.Dataset`, which is found by its path too.
    segments, length
        Snippets of a clip, and flow fields of a snippet: TSN's 3 and 5; 1 and 10 are the original
        two-stream network's.
    sampling
        ``random`` in each segment; ``centre`` of each segment; ``test``, at equal steps; or
        ``whole``, all of the clip, in snippets of up to 250 fields or frames.
    transform
        Takes the (segments, 2 * length, H, W) uint8 levels and a generator; see
        :mod:`flowpipe.training.data.transforms`. None leaves the levels as they are.
    seed
        What is drawn follows from seed, epoch and index alone.
    frame_stride
        Number of frames from one field or frame of a snippet to the next.
    short_clips
        What is done with clips that are shorter than a snippet: ``refuse``, begin them again
        (``loop``), or repeat the last field or frame (``repeat``).
    test_clips
        Number of times that all segments are sampled, at equal steps within each; for ``centre``.
    stacking
        ``trajectory`` samples the fields of a snippet along the paths of its first pixels.
    bound
        Displacement in pixels that saturates 8 bit, for flow that is stored as floating point, and
        8-bit flow of tools that do not record theirs.

    Attributes
    ----------
    names, labels
        Of the clips.

    Raises
    ------
    UnusableClipsError
        Clips are missing, shorter than a snippet, or damaged; all are listed.
    ParameterError
        A parameter is out of its range.

    Examples
    --------
    >>> import flowpipe
    >>> clips = [("zoom/g01_c01_still", 0), ("spin/g01_c01_still", 1)]
    >>> stacks = flowpipe.FlowClips("flow", clips, segments=3, length=5)
    >>> snippets, label = stacks[0]
    >>> snippets.shape, snippets.dtype, label
    (torch.Size([3, 10, 120, 160]), torch.uint8, 0)
    """

    def __init__(
        self,
        source: Path | str,
        clips: Sequence[tuple[str | Clip, int]],
        *,
        segments: int = 3,
        length: int = 5,
        sampling: Sampling = "random",
        transform: Transform | None = None,
        seed: int = 0,
        stacking: Stacking = "flow",
        bound: float = DEFAULT_BOUND,
        frame_stride: int = 1,
        short_clips: ShortClips = "refuse",
        test_clips: int = 1,
    ) -> None:
        if stacking not in ("flow", "trajectory"):
            raise ParameterError(f"stacking is {stacking!r}; it must be flow or trajectory")
        self.stacking = stacking
        super().__init__(
            source,
            clips,
            segments=segments,
            length=length,
            sampling_=sampling,
            transform=transform,
            seed=seed,
            bound=bound,
            frame_stride=frame_stride,
            short_clips=short_clips,
            test_clips=test_clips,
        )

    def _usable_length(self, reader: FlowReader) -> int:
        clip_index.check_members(reader)
        return self._check_length(len(reader), "flow fields")

    def _read(
        self, index: int, snippets: NDArray[np.int64], view: View | None
    ) -> NDArray[np.uint8]:
        reader = self._reader(index)
        if view and self.stacking == "flow" and reader.layout.coding == "jpeg":
            return self._read_view(reader, snippets, view)
        stacks = np.stack(
            [read_stack(reader, fields, stacking=self.stacking) for fields in snippets.tolist()]
        )
        if not view:
            return stacks
        planes = view.cut(stacks.reshape(-1, *stacks.shape[2:]))
        return planes.reshape(*stacks.shape[:2], *planes.shape[1:])

    def _read_view(
        self, reader: FlowReader, snippets: NDArray[np.int64], view: View
    ) -> NDArray[np.uint8]:
        fields = snippets.ravel().tolist()
        jpegs = [jpeg for field in fields for jpeg in reader.jpegs(field)]
        planes, done = self._cutter.cut(jpegs, (reader.meta.height, reader.meta.width), view)
        for number, field in enumerate(fields):
            pair = slice(2 * number, 2 * number + 2)
            if not done[pair].all():  # unusual, or damaged, which this says
                planes[pair] = view.cut(reader.levels(field))
        return planes.reshape(len(snippets), 2 * self.length, view.size, view.size)


class FrameClips(_Clips):
    """RGB frames, or differences of consecutive frames, of labelled clips.

    Frames that were stored with the flow (``extract-flow --frames``), or folders of frames without
    flow, are read; else the video that the flow was made from is decoded, as far as the last frame
    that is needed, and scaled to the size of the flow.

    Parameters
    ----------
    source, clips, segments, sampling, transform, seed, frame_stride, short_clips, test_clips
        As for :class:`FlowClips`; the transform takes (segments, 3 * length, H, W): uint8, red
        green blue of the first frame first; of ``rgb-diff`` int16 from -255 to 255.
    modality
        ``rgb``, or ``rgb-diff``: each frame less the one before it.
    length
        Frames, or differences, of a snippet; 1 for ``rgb`` and 5 for ``rgb-diff`` if None.

    Raises
    ------
    UnusableClipsError
        Clips are missing, shorter than a snippet, or damaged, or have neither frames nor the video
        that the flow was made from; all are listed.
    ParameterError
        A parameter is out of its range.

    Examples
    --------
    >>> import flowpipe
    >>> frames = flowpipe.FrameClips("flow", [("zoom/g01_c01_still", 0)], segments=3)
    >>> frames[0][0].shape
    torch.Size([3, 3, 120, 160])
    """

    _frames_only = True

    def __init__(
        self,
        source: Path | str,
        clips: Sequence[tuple[str | Clip, int]],
        *,
        segments: int = 3,
        sampling: Sampling = "random",
        transform: Transform | None = None,
        modality: Literal["rgb", "rgb-diff"] = "rgb",
        length: int | None = None,
        seed: int = 0,
        frame_stride: int = 1,
        short_clips: ShortClips = "refuse",
        test_clips: int = 1,
    ) -> None:
        if modality not in ("rgb", "rgb-diff"):
            raise ParameterError(f"modality is {modality!r}; it must be rgb or rgb-diff")
        self.modality = modality
        if length is None:
            length = 5 if modality == "rgb-diff" else 1
        super().__init__(
            source,
            clips,
            segments=segments,
            length=length,
            sampling_=sampling,
            transform=transform,
            seed=seed,
            bound=DEFAULT_BOUND,  # of flow, which is not read
            frame_stride=frame_stride,
            short_clips=short_clips,
            test_clips=test_clips,
        )

    def _usable_length(self, reader: FlowReader) -> int:
        if reader.meta.n_images:
            count = reader.meta.n_images
            clip_index.check_members(reader, images=True)
        else:
            count = reader.meta.n_frames
            video_of(reader)
        if self.modality == "rgb-diff":
            return self._check_length(count - 1, f"differences of {count} frames")
        return self._check_length(count, "frames")

    def _read(
        self, index: int, snippets: NDArray[np.int64], view: View | None
    ) -> NDArray[np.generic]:
        wanted = set(snippets.ravel().tolist())
        is_difference = self.modality == "rgb-diff"
        if is_difference:
            wanted |= {one + 1 for one in wanted}
        images = self._images(index, sorted(wanted))
        if view:
            # Before the differences, as tsn-pytorch does: up to two levels from scaling those.
            images = {one: view.cut(image) for one, image in images.items()}
        frames: NDArray[Any] = np.stack(
            [[images[one] for one in each] for each in snippets.tolist()]
        )
        if is_difference:
            after = np.stack([[images[one + 1] for one in each] for each in snippets.tolist()])
            frames = np.subtract(after, frames, dtype=np.int16)
        return frames.reshape(len(frames), -1, *frames.shape[3:])

    def _images(self, index: int, wanted: list[int]) -> dict[int, NDArray[np.uint8]]:
        """Return (3, H, W) RGB by frame number."""
        reader = self._reader(index)
        if reader.meta.n_images:
            images = {one: reader.image(one) for one in wanted}
        else:
            size = (reader.meta.width, reader.meta.height)
            path = video_of(reader)
            decoded = video.frames(path, max_frames=wanted[-1] + 1, only=wanted, keep_damaged=True)
            images = {
                one: resized(frame.image, size) for one, frame in zip(wanted, decoded, strict=False)
            }
            if len(images) < len(wanted):
                raise FormatError(f"{str(path)!r} ends before its frame {wanted[-1]}")
        return {one: image[..., ::-1].transpose(2, 0, 1) for one, image in images.items()}


def video_of(reader: FlowReader) -> Path:
    """Return the video that stored flow was made from.

    Raises
    ------
    FormatError
        It is not known, gone, or another than it was.
    """
    path = reader.video
    if path is None:
        raise FormatError("it holds no frames and does not say of which video it is")
    if not path.exists():
        raise FormatError(f"it holds no frames, and its video {str(path)!r} is gone")
    if path.is_file() and path.stat().st_size != reader.meta.source.get("bytes"):
        raise FormatError(f"its video {str(path)!r} is not the one that the flow was made from")
    return path
