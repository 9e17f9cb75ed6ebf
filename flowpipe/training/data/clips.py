"""Stacks of stored flow as a torch data set, straight from what ``extract-flow`` left on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import ParameterError
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import FlowReader
from flowpipe.models.clip_input import ShortClips, Stacking
from flowpipe.training.data import clip_index
from flowpipe.training.data.sampled import SampledClips
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.stacks import read_stack
from flowpipe.training.data.views import Transform, View


class FlowClips(SampledClips):
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
