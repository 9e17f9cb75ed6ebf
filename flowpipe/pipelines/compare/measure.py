"""Measure what systems cost: seconds, energy and disk, added up over interrupted runs.

What is measured differs from run to run, so it has files of its own, one for each system and each
shared stage, and no part in anything that is compared.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.datasets.names import safe_name
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.runner import atomic, json_files
from flowpipe.runner.inspect import size_of
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import RECORDS

FOLDER = "measured"
_EVERY = 5.0
"""Seconds between two writes: what a killed run loses of its time."""
_RAPL = Path("/sys/class/powercap")


class OverBudgetError(FlowpipeError):
    """The rest of a system does not fit into the time that is left."""


@dataclass
class Budget:
    """The time that a run may take.

    Attributes
    ----------
    seconds
        None: as long as it takes.
    started
        When it began, by the monotonic clock.
    """

    seconds: float | None = None
    started: float = field(default_factory=lambda: time.monotonic())

    @property
    def left(self) -> float | None:
        """Seconds that are left, not below 0; None if there is no limit."""
        if self.seconds is None:
            return None
        return max(0.0, self.seconds - (time.monotonic() - self.started))

    def require(self, needed: float | None, what: str) -> None:
        """Raise an OverBudgetError if what comes next does not fit.

        Parameters
        ----------
        needed
            Estimated seconds; None if unknown, which fits as long as any time is left.
        what
            Names the work in the message.
        """
        left = self.left
        if left is not None and (left <= 0 or (needed is not None and needed > left)):
            raise OverBudgetError(f"{what} does not fit into --hours")


@dataclass(frozen=True)
class Meter:
    """Measure one system or shared stage.

    Attributes
    ----------
    out
        Output folder of the comparison.
    job
        Name of the system or stage.
    budget
        The time that is left.
    """

    out: Path
    job: str
    budget: Budget

    @property
    def path(self) -> Path:
        """The file of what was measured."""
        return self.out / RECORDS / FOLDER / f"{safe_name(self.job)}.json"

    def read(self) -> Json:
        """Return what was measured so far; what cannot be read counts for nothing."""
        found: Json = {}
        with contextlib.suppress(FormatError, OSError):
            found = json_files.read_json(self.path)
        return {"parts": {}, "joules": None, "share": 0.0, "folders": [], **found}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of a block, and its energy where the machine tells it.

        A killed run loses a few seconds at most.
        """
        before = self.read()
        begin, energy = time.perf_counter(), _Energy()
        ended = threading.Event()

        def write() -> None:
            parts = dict(before["parts"])
            parts[name] = round(parts.get(name, 0.0) + time.perf_counter() - begin, 3)
            used = energy.joules()
            joules = None if used is None else round((before["joules"] or 0.0) + used, 1)
            self._write({**self.read(), "parts": parts, "joules": joules})

        def keep_writing() -> None:
            while not ended.wait(_EVERY):
                with contextlib.suppress(OSError):  # such as a full disk, of which the run tells
                    write()

        thread = threading.Thread(target=keep_writing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            write()

    def finished(self, share: float) -> None:
        """Note which share of the work is done, 0 to 1, for estimates of the rest."""
        found = self.read()
        self._write({**found, "share": max(share, found["share"])})

    def uses(self, *folders: Path) -> None:
        """Note the folders of the stages, for their size and for ``flowpipe clean --stale``."""
        found = self.read()
        names = sorted({*found["folders"], *(folder.name for folder in folders)})
        self._write({**found, "folders": names})

    def seconds(self) -> float:
        """Return the seconds that were measured so far."""
        return float(sum(self.read()["parts"].values()))

    def remaining(self) -> float | None:
        """Return an estimate of the seconds that are left; None if nothing was measured."""
        found = self.read()
        if not found["share"]:
            return None
        share = float(found["share"])
        return float(sum(found["parts"].values())) * (1 - share) / share

    def require(self, what: str) -> None:
        """Raise an OverBudgetError if the rest does not fit into the budget."""
        self.budget.require(self.remaining(), what)

    def _write(self, content: Json) -> None:
        atomic.write_atomic(self.path, json_files.to_json(content), self.out)


def disk_of(out: Path, folders: Sequence[str]) -> int:
    """Return the bytes of stage folders in an output folder."""
    return sum(size_of(out / name) for name in folders)


class _Energy:
    """Count the energy of the processor packages since now (RAPL), where it may be read."""

    def __init__(self, root: Path = _RAPL) -> None:
        # intel-rapl:0, of AMD's processors too; intel-rapl:0:1 are parts of it.
        self._counters = [
            path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1
        ]
        self._last = self._read()
        self._used = 0.0

    def _read(self) -> list[tuple[int, int]] | None:
        try:
            return [
                (
                    int((path / "energy_uj").read_text()),
                    int((path / "max_energy_range_uj").read_text()),
                )
                for path in self._counters
            ] or None
        except (OSError, ValueError):  # since 2020, root alone may read it on most machines
            return None

    def joules(self) -> float | None:
        """Return the joules so far; called often enough, no overflow of a counter is lost."""
        now = self._read()
        if now is None or self._last is None:
            return None
        for (new, limit), (old, _) in zip(now, self._last, strict=True):
            self._used += (new - old if new >= old else new + limit - old) / 1e6
        self._last = now
        return self._used
