"""RGB frames of labelled clips as a torch data set: stored ones, or those of their videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import FlowReader
from flowpipe.io import video
from flowpipe.io.source import resized
from flowpipe.models.clip_input import ShortClips
from flowpipe.training.data import clip_index
from flowpipe.training.data.sampled import SampledClips
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.views import Transform, View


class FrameClips(SampledClips):
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
