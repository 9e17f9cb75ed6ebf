"""Frames of a live source with the newest label drawn over them, as an mp4."""

from __future__ import annotations

import contextlib
import queue
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.io.source import resized
from flowpipe.io.stream import FrameSource, StreamFrame
from flowpipe.io.video_writer import VideoWriter
from flowpipe.prediction.captions import captions
from flowpipe.prediction.live.run import LivePrediction
from flowpipe.report.labels import draw_labels, enlarged
from flowpipe.runner import atomic

_WAITING = 8
"""Frames that wait for the encoder; more are left out of the video."""
_USUAL_RATE = 25.0


class Overlay:
    """Writes the frames that are used, with the newest label; a context manager.

    The encoder has a thread of its own. The video keeps the times of the source: a frame that was
    left out is a pause of the one before. It is in place once the context ends.

    Parameters
    ----------
    path
        The mp4.
    source
        Whose frames they are.
    """

    def __init__(self, path: Path, source: FrameSource) -> None:
        self._path, self._source = path, source
        self._label: LivePrediction | None = None
        self._frames: queue.Queue[StreamFrame | None] = queue.Queue(_WAITING)
        self._temporary = atomic.temporary_file(path.parent)
        self._error: BaseException | None = None
        self._written = 0
        self._thread = Thread(target=self._write, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # The thread may have ended with an error, and take nothing any more.
            while self._thread.is_alive():
                with contextlib.suppress(queue.Full):
                    self._frames.put(None, timeout=0.1)
                    break
            self._thread.join()
            if self._written and self._error is None:
                atomic.place(self._temporary, self._path)
        finally:
            atomic.discard(self._temporary)
            with contextlib.suppress(OSError):
                self._temporary.parent.rmdir()
        if self._error is not None and kind is None:
            raise self._error

    def add(self, frame: StreamFrame) -> None:
        """Write a frame, unless the encoder is behind.

        Raises
        ------
        OSError
            The video cannot be written.
        """
        if self._error is not None:
            raise self._error
        with contextlib.suppress(queue.Full):
            self._frames.put_nowait(frame)

    def label(self, prediction: LivePrediction) -> None:
        """Draw a label from now on."""
        self._label = prediction

    def _write(self) -> None:
        try:
            frame = self._frames.get()
            rate = self._source.rate or _USUAL_RATE
            with VideoWriter(self._temporary, rate) as writer:
                size = None
                while frame is not None:
                    image = frame.image
                    size = size or (image.shape[1], image.shape[0])
                    writer.add(self._drawn(resized(image, size)), frame.time)
                    self._written += 1
                    frame = self._frames.get()
        except BaseException as error:  # raised again in the thread that adds
            self._error = error

    def _drawn(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        picture = enlarged(image)
        return picture if self._label is None else draw_labels(picture, captions(self._label))
