"""Write HDF5 files safely on a disk that may fill up.

HDF5 crashes the process when it closes a file whose last writes failed because the disk was full.
So it is given a file object whose writes always seem to succeed, and which is checked afterwards.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class DeferredErrorFile(io.RawIOBase):
    """Write a binary file, and report write errors only in :meth:`check`.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that occurred, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of the data; after an error, do nothing."""
        left = memoryview(data).cast("B")
        while left and self._error is None:
            try:
                left = left[self._file.write(left) :]
            except OSError as error:
                self._error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the length; after an error, do nothing."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
