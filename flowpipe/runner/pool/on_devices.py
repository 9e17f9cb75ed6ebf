"""One worker process per device (a GPU), each with threads that process several clips at once.

A device takes the next clip when it has finished one, so that a faster device gets more of them. A
process that dies, or whose device fails, loses the clips that it had, and is replaced. Which of the
clips was the cause is unknown, so each is tried once more alone, on another device if there is one.
A device that cannot be used, or that has failed three times since it last finished a clip, is given
up, and the run continues on the others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Protocol

from flowpipe.errors import FlowpipeError
from flowpipe.runner.pool.dispatch import dispatch
from flowpipe.runner.pool.local import Batched, death, exit_with_parent, start_process
from flowpipe.runner.pool.results import (
    Advance,
    C,
    C_contra,
    Fatal,
    Lost,
    Outcome,
    RunStoppedError,
    Work,
    attempt,
)

logger = logging.getLogger(__name__)

_FAILURES = 3
"""Failures of a device that say it is of no use; those of a clip that failed before, which is alone
then, say more of the clip, and are not counted."""


class DeviceFailedError(FlowpipeError):
    """A device cannot compute any more; raised by the work for a clip."""

    kind: ClassVar[str] = "worker-died"


class DeviceWork(Work[C_contra], Protocol[C_contra]):
    """Work for one clip that can be bound to a device."""

    def on_device(self, device: str, clips: int) -> Work[C_contra]:
        """Return the work on a device for so many clips at once, called in its process.

        Raises
        ------
        FlowpipeError
            The device cannot be used.
        """


def over_clips_on_devices(
    work: DeviceWork[C],
    clips: Sequence[C],
    *,
    devices: Sequence[str],
    threads: int,
    advance: Advance = lambda n: None,
) -> Iterator[Outcome[C]]:
    """Process every clip on one of several devices, and yield the outcomes as they arrive.

    Parameters
    ----------
    work, clips, advance
        As for :func:`flowpipe.runner.pool.over_clips`.
    devices
        Names of the devices, each with a process of its own.
    threads
        Number of clips that a device processes at once, at least 1.

    Yields
    ------
    Outcome

    Raises
    ------
    RunStoppedError
        As :func:`flowpipe.runner.pool.over_clips` does, and if no device is left.
    """
    if clips:
        with contextlib.closing(DevicePool(work, devices, threads, advance)) as pool:
            yield from dispatch(pool, clips)


@dataclass(frozen=True, slots=True)
class _Failed:
    """Message of a process whose device has failed, or cannot be used at all."""

    reason: str
    useless: bool = False


@dataclass(slots=True)
class _Worker:
    device: str
    process: BaseProcess
    connection: Connection
    clips: dict[str, Any] = field(default_factory=dict)
    retries: bool = False  # its only clip was lost before


class DevicePool:
    """Start a process per device when clips are submitted, and replace those that die.

    Parameters
    ----------
    work
        The function for one clip.
    devices
        Names of the devices.
    threads
        Number of clips that a device processes at once.
    advance
        Called with the number of units processed.
    """

    def __init__(
        self, work: DeviceWork[Any], devices: Sequence[str], threads: int, advance: Advance
    ) -> None:
        self._work = work
        self._threads = threads
        self._advance = advance
        self._devices = tuple(devices)
        self._workers: dict[str, _Worker | None] = dict.fromkeys(devices)
        self._failures: Counter[str] = Counter()
        self._given_up: dict[str, str] = {}
        self._failed_on: dict[str, str] = {}  # the device that a clip was lost on
        self._waiting: deque[Any] = deque()  # submitted, and not sent yet

    def free_slots(self) -> int:
        """Return how many clips can be submitted now."""
        if not self._workers:
            reasons = "; ".join(f"{name}: {self._given_up[name]}" for name in self._devices)
            raise RunStoppedError(
                f"stopped: no device is left ({reasons}). Finished clips are complete; run the "
                "same command again to resume"
            )
        if self._waiting:
            return 0
        return sum(self._threads - self._load(device) for device in self._workers)

    def submit(self, clip: Any) -> None:
        """Send a clip to the device that has the fewest; one that was lost waits for its own."""
        self._waiting.append(clip)
        self._send_waiting()

    def wait(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for a message, or the death of a process."""
        workers = {each.connection: each for each in self._workers.values() if each}
        ended: list[tuple[Any, Outcome[Any] | Fatal | Lost]] = []
        for connection in wait(list(workers)):
            worker = workers[connection]  # type: ignore[index]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                message = _Failed(death(worker.process))
            if isinstance(message, int):
                self._advance(message)
            elif isinstance(message, _Failed):
                ended += self._lose(worker, message)
            else:
                name = message.clip if isinstance(message, Fatal) else message.clip.name
                self._failures[worker.device] = 0
                ended.append((worker.clips.pop(name), message))
                worker.retries = False
        self._send_waiting()
        return ended

    def close(self) -> None:
        """Kill the processes."""
        for worker in self._workers.values():
            if worker:
                _end(worker)

    def _load(self, device: str) -> int:
        """Return the number of clips of a device, or that of its threads while one is alone."""
        worker = self._workers[device]
        if worker is None:
            return 0
        return self._threads if worker.retries else len(worker.clips)

    def _send_waiting(self) -> None:
        """Send clips, in their order, while a device is free for the next."""
        while self._waiting and self._workers:
            clip = self._waiting[0]
            lost_on = self._failed_on.get(clip.name)
            others = [device for device in self._workers if device != lost_on]
            device = min(others or self._workers, key=self._load)
            if self._load(device) >= (self._threads if lost_on is None else 1):
                return
            worker = self._workers[device] or self._start(device)
            worker.clips[clip.name] = self._waiting.popleft()
            worker.retries = lost_on is not None
            # A process that died meanwhile is noticed by wait().
            with contextlib.suppress(OSError):
                worker.connection.send(clip)

    def _start(self, device: str) -> _Worker:
        pickled = pickle.dumps((self._work, device, self._threads))
        worker = _Worker(device, *start_process(_serve, pickled))
        self._workers[device] = worker
        return worker

    def _lose(self, worker: _Worker, failed: _Failed) -> list[tuple[Any, Lost]]:
        """End a process, and return the clips that it had."""
        _end(worker)
        device, reason = worker.device, failed.reason
        self._failures[device] += not worker.retries
        if failed.useless or self._failures[device] == _FAILURES:
            del self._workers[device]
            self._given_up[device] = reason
            left = ", ".join(self._workers) or "none"
            logger.warning(f"{device} is not used any more: {reason}; devices left: {left}")
        else:
            self._workers[device] = None
            logger.warning(f"{device} failed and is started again: {reason}")
        self._failed_on.update(dict.fromkeys(worker.clips, device))
        return [(clip, Lost(f"{device}: {reason}")) for clip in worker.clips.values()]


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _serve(connection: Connection, pickled: bytes) -> None:
    """Run the process of a device."""
    exit_with_parent()
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(message)

    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    work, device, threads = pickle.loads(pickled)
    try:
        work = work.on_device(device, threads)
    except Exception as error:  # whatever a driver raises
        send(_Failed(f"{type(error).__name__}: {error}", useless=True))
    else:
        for _ in range(threads):
            threading.Thread(target=_process, args=(work, waiting, send), daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            waiting.put(connection.recv())


def _process(work: Work[Any], waiting: queue.SimpleQueue[Any], send: Any) -> None:
    try:
        advance = Batched(send)
        while True:
            result = attempt(work, waiting.get(), advance)
            advance.flush()
            failed = isinstance(result, Outcome) and result.kind == DeviceFailedError.kind
            send(_Failed(result.reason or "") if failed else result)
    except BaseException:  # such as SystemExit: without its thread the clip would never end
        traceback.print_exc()
        os._exit(1)
