"""Work for worker processes, which have to import it."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.errors import FlowpipeError
from flowpipe.runner.pool import Advance, DeviceFailedError, Done, Workers, over_clips


@dataclass(frozen=True)
class Named:
    """A clip whose name says what befalls it."""

    name: str

    @property
    def path(self) -> Path:
        return Path("videos", self.name)


class SpecialError(FlowpipeError):
    kind = "special"


class PlainFaultError(FlowpipeError):
    pass


@dataclass(frozen=True)
class ByName:
    """Does what the name of the clip says, and notes each attempt in a folder."""

    folder: Path

    def __call__(self, clip: Named, advance: Advance) -> Done:
        with (self.folder / clip.name).open("ab") as file:
            file.write(b"%d\n" % os.getpid())
        what = clip.name.partition("-")[0]
        attempts = len((self.folder / clip.name).read_bytes().splitlines())
        match what:
            case "skip":
                return Done(skipped=True)
            case "warn":
                return Done(warning="it was odd")
            case "special":
                raise SpecialError(f"{clip.name} is special")
            case "plain":
                raise PlainFaultError("plainly")
            case "bug":
                raise KeyError("left")
            case "denied":
                raise PermissionError(errno.EACCES, "Permission denied", "x.mp4")
            case "full" | "quota" | "readonly":
                number = {
                    "full": errno.ENOSPC,
                    "quota": errno.EDQUOT,
                    "readonly": errno.EROFS,
                }[what]
                raise OSError(number, os.strerror(number))
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "quit":
                sys.exit(4)
            case "once" if attempts == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "parent" if attempts == 1:
                # Of a worker process on a cluster: the cluster's own worker.
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(120)
            case "parents":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(120)
            case "sleep":
                time.sleep(120)
            case "threads":
                import cv2

                values = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
                return Done(warning=f"{cv2.getNumThreads()} {' '.join(values)}")
        advance(2)
        advance(1)
        return Done()


@dataclass(frozen=True)
class OnDevices(ByName):
    """Does the same on a device, and notes which.

    A clip "broken-cpu:1" breaks that device, a clip "poison" every one; cpu:1 is slow, and so is
    a clip "slow" everywhere.
    """

    broken: tuple[str, ...] = ()
    device: str = ""

    def on_device(self, device: str, clips: int) -> OnDevices:
        if device in self.broken:
            raise FlowpipeError("no such device")
        return replace(self, device=device)

    def __call__(self, clip: Named, advance: Advance) -> Done:
        with (self.folder / "devices").open("ab") as file:
            file.write(f"{clip.name} {self.device}\n".encode())
        if self.device == "cpu:1" or clip.name.startswith("slow"):
            time.sleep(0.5)
        if clip.name.startswith("poison") or clip.name.startswith(f"broken-{self.device}"):
            raise DeviceFailedError(f"an illegal memory access on {self.device}")
        return ByName.__call__(self, clip, advance)


if __name__ == "__main__":
    # A run to be killed from outside.
    names = [Named(name) for name in sys.argv[3:]]
    for outcome in over_clips(ByName(Path(sys.argv[1])), names, workers=Workers(int(sys.argv[2]))):
        print(outcome.status, flush=True)
