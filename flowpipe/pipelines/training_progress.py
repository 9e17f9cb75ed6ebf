"""Log the progress of a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flowpipe.runner.progress import clock_time
from flowpipe.training.log import Epoch, Step

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 20.0


class TrainingProgress:
    """Log the progress of a training every few seconds.

    Parameters
    ----------
    name
        Of the split.
    unit
        What is trained on, in the plural.
    clock
        Return the time in seconds, from any origin.
    """

    def __init__(
        self, name: str, unit: str = "clips", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._unit, self._clock = name, unit, clock
        self._start = self._last = clock()
        self._clips = self._steps = 0
        self._rate = ""

    def advance(self, step: Step) -> None:
        """Count a step."""
        self._clips += step.clips
        self._steps += 1
        now = self._clock()
        seconds = max(now - self._start, 1e-9)
        left = (step.epochs - step.epoch) * step.steps - step.step
        time_left = clock_time(left * seconds / self._steps)
        self._rate = f"{self._clips / seconds:.1f} {self._unit}/s, {time_left} left"
        if now - self._last >= _REPORT_SECONDS and step.step < step.steps:
            self._last = now
            logger.info(
                f"{self._name}: epoch {step.epoch + 1}/{step.epochs}, step {step.step}/"
                f"{step.steps}, {self._rate}"
            )

    def finish_epoch(self, epoch: Epoch, count: int) -> None:
        """Log an epoch, if it is time or the last."""
        now = self._clock()
        if now - self._last < _REPORT_SECONDS and epoch.epoch < count:
            return
        self._last = now
        accuracy = "" if epoch.accuracy is None else f"accuracy {100 * epoch.accuracy:.1f} %, "
        logger.info(
            f"{self._name}: epoch {epoch.epoch}/{count}, loss {epoch.loss:.3f}, "
            f"{accuracy}{self._rate}"
        )
