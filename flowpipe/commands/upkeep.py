"""``verify``, ``doctor`` and ``demo``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from flowpipe.commands.options import WorkerOptions, Workforce


@dataclass(frozen=True)
class Verify:
    """Check that stored flow is whole and belongs to its videos; the exit status is 1 if not."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow."""
    repair: bool = False
    """Remove what is not whole or not up to date, so that the next run makes it anew."""
    workers: Workforce = field(default_factory=WorkerOptions)

    def run(self) -> int:
        """Verify, and print a summary."""
        from flowpipe.pipelines.upkeep import verify

        return verify(self.flow, repair=self.repair, workers=self.workers.chosen()).exit_status


@dataclass(frozen=True)
class Doctor:
    """Say which solvers run on this machine and, for each that does not, why and what brings it."""

    def run(self) -> int:
        """Print the report."""
        from flowpipe import doctor

        doctor.report(Console())
        return 0


@dataclass(frozen=True)
class Demo:
    """Make a small labelled set of videos, run every stage on it, and say what lies where."""

    out: Path = Path("flowpipe-demo")
    """Folder for everything that it makes."""
    workers: Workforce = field(default_factory=WorkerOptions)

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe.pipelines.demo import demo

        return demo(self.out, workers=self.workers.chosen())
