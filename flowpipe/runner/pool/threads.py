"""Process clips in threads of this process."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from flowpipe.errors import ParameterError
from flowpipe.runner.pool.results import Advance, C, Fatal, Outcome, Work, attempt, unless_fatal


def over_clips_in_threads(
    work: Work[C], clips: Sequence[C], *, threads: int, advance: Advance = lambda n: None
) -> Iterator[Outcome[C]]:
    """Process every clip in threads of this process, and yield the outcomes as they arrive.

    For work whose heavy part runs in batches on a GPU that the threads share.

    Parameters
    ----------
    work, clips, advance
        As for :func:`flowpipe.runner.pool.over_clips`.
    threads
        Number of clips processed at once, at least 1.

    Raises
    ------
    RunStoppedError
        As :func:`flowpipe.runner.pool.over_clips` does.
    """
    if threads < 1:
        raise ParameterError(
            f"jobs is {threads}; a solver that batches pairs of several clips needs at least 1"
        )
    messages: queue.SimpleQueue[Outcome[C] | Fatal | int] = queue.SimpleQueue()
    waiting = deque(clips)

    def serve() -> None:
        with contextlib.suppress(IndexError):
            while True:
                messages.put(attempt(work, waiting.popleft(), messages.put))

    for _ in range(min(threads, len(clips))):
        # Daemon threads, so that Ctrl-C and a full disk end the run at once.
        threading.Thread(target=serve, daemon=True).start()
    left = len(clips)
    try:
        while left:
            message = messages.get()
            if isinstance(message, int):
                advance(message)
                continue
            left -= 1
            yield unless_fatal(message)
    finally:
        waiting.clear()
