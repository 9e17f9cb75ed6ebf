"""HDF5 files on a disk that may fill up.

HDF5 brings the process down when it closes a file whose last writes found the disk full. So it is
given a file whose writes seem to succeed, and that file is asked afterwards.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class DeferredErrorFile(io.RawIOBase):
    """A new binary file that keeps its errors to itself until it is asked.

    Parameters
    ----------
    path
        The file; what is there is lost.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that was met."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of the data, or, after an error, seem to."""
        left = memoryview(data).cast("B")
        while left and self._error is None:
            try:
                left = left[self._file.write(left) :]
            except OSError as error:
                self._error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or seem to."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as a file does."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
