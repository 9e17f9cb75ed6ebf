"""Clips in threads of this process."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from flowpipe.errors import ParameterError
from flowpipe.runner.pool.results import Advance, C, Fatal, Outcome, Work, attempt, checked


def over_clips_in_threads(
    work: Work[C], clips: Sequence[C], *, threads: int, advance: Advance = lambda n: None
) -> Iterator[Outcome[C]]:
    """Do the work to every clip in threads of this process, yielding outcomes as they come.

    For work whose heavy part is on another device and gathers what the threads hand in.

    Parameters
    ----------
    work, clips, advance
        As for :func:`flowpipe.runner.pool.over_clips`.
    threads
        Clips that are worked on at once, at least 1.

    Raises
    ------
    RunStoppedError
        As :func:`flowpipe.runner.pool.over_clips` does.
    """
    if threads < 1:
        raise ParameterError(f"jobs is {threads}; work that gathers clips needs at least 1")
    messages: queue.SimpleQueue[Outcome[C] | Fatal | int] = queue.SimpleQueue()
    waiting = deque(clips)

    def serve() -> None:
        with contextlib.suppress(IndexError):
            while True:
                messages.put(attempt(work, waiting.popleft(), messages.put))

    for _ in range(min(threads, len(clips))):
        # Daemons, so that Ctrl-C and a full disk end the run at once.
        threading.Thread(target=serve, daemon=True).start()
    left = len(clips)
    try:
        while left:
            message = messages.get()
            if isinstance(message, int):
                advance(message)
                continue
            left -= 1
            yield checked(message)
    finally:
        waiting.clear()
