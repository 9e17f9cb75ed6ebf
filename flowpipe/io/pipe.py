"""Standard input or a named pipe as a file that is read as its bytes come."""

from __future__ import annotations

import errno
import os
import select
from threading import Event

_ROUND = 100
"""Milliseconds after which a reader that waits looks whether it is to stop."""


class PipeReader:
    """A file that PyAV reads.

    A named pipe without a writer is waited for, and ends when its last writer closes it.

    Parameters
    ----------
    name
        Path of the pipe, or ``-`` for standard input.
    stop
        Ends a read that waits.
    """

    def __init__(self, name: str, stop: Event) -> None:
        self.name = name
        self._stop = stop
        # Not blocking, since opening a pipe would wait for a writer.
        self._descriptor = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end, or when it is to stop."""
        while not self._stop.is_set():
            if not self._poll.poll(_ROUND):
                continue
            try:
                return os.read(self._descriptor, size)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        return b""

    def close(self) -> None:
        """Close the pipe; standard input is left open."""
        if self._descriptor:
            os.close(self._descriptor)
            self._descriptor = 0
