"""Label a live source while it plays: one thread decodes, one extracts, and the caller's scores.

The three meet in a mailbox of frames and in the window of what was extracted, both bounded. When a
label is due, the caller's thread scores the window as it is then, while the others carry on; a
label that takes longer than the time between two labels makes the next ones fewer, not later.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.io.stream import FrameSource, StreamError, StreamFrame
from flowpipe.prediction.base import Prediction
from flowpipe.prediction.live.mailbox import Mailbox
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.window import Window, WindowClip
from flowpipe.prediction.record import Record

logger = logging.getLogger(__name__)

_LOOK = 0.2
"""Seconds between looks at a source that gives nothing."""
_PATIENCE = 2.0
"""Seconds that a thread has to end; one that waits inside FFmpeg ends with the process."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LivePrediction(Prediction):
    """Scores of the last seconds of a live source.

    Attributes
    ----------
    name, path, classes, scores, trained, temperature
        As for :class:`~flowpipe.prediction.Prediction`; `name` is the source as it was given.
    time
        Seconds of the source from its first frame to the newest one that was scored.
    delay
        Seconds from the arrival of that frame to the label.
    frames, used, dropped
        Frames that were decoded so far, and those of them that were extracted and dropped.
    fps
        Frames used per second of the source, since the label before.
    """

    time: float
    delay: float
    frames: int
    used: int
    dropped: int
    fps: float


class Labels(Protocol):
    """What the labels of a live source say besides the scores: a classifier's or a detector's.

    Attributes as for :class:`~flowpipe.prediction.Classifier`.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips."""

    @property
    def record(self) -> Record:
        """The calibration."""


class Display(Protocol):
    """Shows the frames that are used, with the newest label."""

    def add(self, frame: StreamFrame) -> None:
        """Show a frame."""

    def label(self, prediction: LivePrediction) -> None:
        """Show a label from now on."""


class _Extraction:
    """The threads that decode and extract, and what the caller's thread waits for."""

    def __init__(
        self,
        window: Window,
        source: FrameSource,
        duration: float | None,
        display: Display | None,
        *,
        drops: bool,
    ) -> None:
        self.mailbox = Mailbox(window.run, window.before, drops=drops)
        self.newest = -1.0
        self.ended = False
        self.error: BaseException | None = None
        self.changed = Condition()
        self._window, self._source = window, source
        self._duration, self._display = duration, display
        self._stop = Event()
        self.begun = time.monotonic()
        # Daemons, since a read of a dead device may never return.
        self._threads = [Thread(target=each, daemon=True) for each in (self._decode, self._extract)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        self.mailbox.close()
        end = time.monotonic() + _PATIENCE
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(end - time.monotonic(), 0))

    def _decode(self) -> None:
        try:
            for frame in self._source.frames(self._stop):
                if self._duration is not None and frame.time >= self._duration:
                    break
                self.mailbox.put(frame)
                if self._stop.is_set():
                    break
        except BaseException as error:  # raised again in the caller's thread
            self.error = error
        finally:
            self.mailbox.end()

    def _extract(self) -> None:
        try:
            while (taken := self.mailbox.take()) is not None:
                self._window.add(taken)
                if self._display is not None:
                    self._display.add(taken.frame)
                with self.changed:
                    self.newest = taken.frame.time
                    self.changed.notify_all()
        except BaseException as error:  # raised again in the caller's thread
            self.error = error
        finally:
            self._stop.set()
            self.mailbox.close()
            with self.changed:
                self.ended = True
                self.changed.notify_all()


def live_labels(
    classifier: Labels,
    window: Window,
    source: FrameSource,
    live: Live,
    display: Display | None = None,
    *,
    drops: bool = True,
) -> Generator[LivePrediction, None, None]:
    """Yield a label of the last seconds of a source every few seconds, and one when it ends.

    Parameters
    ----------
    classifier
        Whose labels they are.
    window
        Extracts and scores for the classifier.
    source
        Gives the frames.
    live
        Options.
    display
        Shows the frames and the labels.
    drops
        Whether frames are dropped when they come faster than they are used; otherwise the source
        waits.

    Raises
    ------
    StreamError
        The source gives nothing for too long, breaks off, or ends before there is a label. What was
        extracted until then has been labelled.
    FlowpipeError
        The source cannot be opened, or its frames cannot be used.
    """
    extraction = _Extraction(window, source, live.duration, display, drops=drops)
    mailbox = extraction.mailbox
    labels, due, labelled, counted = 0, live.every, -1.0, (0, 0.0)
    extraction.start()
    try:
        ended = False
        while not ended:
            ended = _wait(extraction, source, live, due)
            clip = window.clip()
            if clip is None or clip.time <= labelled:
                due = max(due, math.nextafter(extraction.newest, math.inf))
                continue
            used = mailbox.used
            prediction = _prediction(classifier, window, clip, source, mailbox, counted)
            if display is not None:
                display.label(prediction)
            labels, labelled, counted = labels + 1, clip.time, (used, clip.time)
            due = live.every * (math.floor(max(labelled, due) / live.every + 1e-9) + 1)
            yield prediction
        if extraction.error is not None:
            raise extraction.error
        if not labels:
            raise StreamError(
                f"{source.name!r} ended after {mailbox.received} frames; a label needs at least "
                f"{window.fewest} consecutive ones"
            )
    finally:
        extraction.close()
        logger.info(_summary(source, mailbox, labels, max(extraction.newest, 0)))


def _wait(extraction: _Extraction, source: FrameSource, live: Live, due: float) -> bool:
    """Wait for a frame of the time `due`; return whether the source has ended or gives nothing."""
    with extraction.changed:
        while not extraction.ended and extraction.newest < due:
            silent = time.monotonic() - max(source.heard, extraction.begun)
            if silent > live.stall and not extraction.mailbox.ended:
                why = f": {source.trouble}" if source.trouble else ""
                extraction.error = StreamError(
                    f"{source.name!r} gave no frame for {live.stall:g} s{why}"
                )
                return True
            extraction.changed.wait(_LOOK)
        return extraction.ended


def _prediction(
    classifier: Labels,
    window: Window,
    clip: WindowClip,
    source: FrameSource,
    mailbox: Mailbox,
    counted: tuple[int, float],
) -> LivePrediction:
    used = mailbox.used
    scores = window.scores(clip)
    seconds = clip.time - counted[1]
    return LivePrediction(
        name=source.name,
        path=Path(source.name),
        classes=classifier.classes,
        scores=scores,
        trained=classifier.trained,
        temperature=classifier.record.temperature,
        time=clip.time,
        delay=time.monotonic() - clip.arrived,
        frames=mailbox.received,
        used=mailbox.used,
        dropped=mailbox.dropped,
        fps=(used - counted[0]) / seconds if seconds > 0 else 0.0,
    )


def _summary(source: FrameSource, mailbox: Mailbox, labels: int, seconds: float) -> str:
    damaged = f", {source.failed} packets could not be decoded" if source.failed else ""
    return (
        f"{source.name}: {labels} labels in {seconds:.1f} s; {mailbox.received} frames, "
        f"{mailbox.used} used, {mailbox.dropped} dropped{damaged}"
    )
