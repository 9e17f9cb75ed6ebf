"""The last frames of a video that is being decoded, as a network sees a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.quantize import from_uint8, to_uint8
from flowpipe.models.clip_input import BOTH, ClipInput
from flowpipe.training.data.pairs import frame_places, joined
from flowpipe.training.data.stacks import follow


class RecentFrames:
    """Fields, frames or differences of frames, of which only the latest are kept.

    Parameters
    ----------
    seen
        What the network sees of a clip.
    bound
        Displacement in pixels that saturates the levels of flow.
    """

    def __init__(self, seen: ClipInput, bound: float) -> None:
        self._seen, self._bound = seen, bound
        self._fields: dict[int, NDArray[np.uint8]] = {}
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._n_fields = self._n_images = 0

    def __len__(self) -> int:
        """Return the number of fields, frames or differences so far."""
        if self._seen.has_flow:
            return self._n_fields
        return max(self._n_images - (self._seen.modality == "rgb-diff"), 0)

    def add(self, image: NDArray[np.uint8], levels: NDArray[np.uint8] | None) -> None:
        """Add a frame.

        Parameters
        ----------
        image
            (H, W, 3) BGR.
        levels
            (2, H, W) of the flow that ends in the frame, if there is any.
        """
        if not self._seen.is_flow:
            self._images[self._n_images] = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        self._n_images += 1
        if levels is not None:
            self._fields[self._n_fields] = levels
            self._n_fields += 1

    def expect(self, starts: Sequence[int], length: int) -> None:
        """Do nothing: frames come by themselves."""

    def snippet(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return (C * L, H, W) of L fields, frames or differences; the last one repeats."""
        inside = [min(max(index, 0), len(self) - 1) for index in indices]
        if self._seen.is_flow:
            return self._stack(inside)
        if self._seen.modality == BOTH:
            places = frame_places(len(inside), self._seen.fields_per_frame)
            frames = np.concatenate([self._images[inside[place]] for place in places])
            return joined(frames, self._stack(inside))
        first = np.stack([self._images[index] for index in inside])
        if self._seen.modality == "rgb-diff":
            after = np.stack([self._images[index + 1] for index in inside])
            return np.subtract(after, first, dtype=np.int16).reshape(-1, *first.shape[2:])
        return first.reshape(-1, *first.shape[2:])

    def forget(self, before: int) -> None:
        """Drop what is before a field or frame; never what may be repeated."""
        before = min(before, len(self) - 1)
        self._fields = {index: each for index, each in self._fields.items() if index >= before}
        self._images = {index: each for index, each in self._images.items() if index >= before}

    def _stack(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        fields = np.stack([self._fields[index] for index in indices])
        if self._seen.stacking == "trajectory":
            flow = from_uint8(fields, self._bound, zero=127.5)
            fields = to_uint8(follow(flow), self._bound)
        return fields.reshape(-1, *fields.shape[2:])
