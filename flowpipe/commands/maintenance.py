"""``status``, ``verify``, ``clean``, ``doctor`` and ``demo``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.filesize import decimal
from rich.prompt import Confirm
from rich.text import Text
from tyro.conf import Positional, arg

from flowpipe.commands.options import WorkerOptions, reporting_workers


@dataclass(frozen=True)
class Status:
    """Say what an output folder holds and how far its run is: done, failed, rate, time, disk."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, or of a recipe with a folder for each stage."""
    json: bool = False
    """Print JSON, for scripts."""

    def run(self) -> int:
        """Print the report; the exit status is 1 where clips failed."""
        from flowpipe.report import status_text
        from flowpipe.runner.inspect import stage_folders, status

        found = [status(folder) for folder in stage_folders(self.out)]
        if self.json:
            print(status_text.as_json(found))
        else:
            for stage in found:
                Console(highlight=False).print(status_text.as_text(stage), soft_wrap=True)
        return 1 if any(stage.failures for stage in found) else 0


@dataclass(frozen=True)
class Clean:
    """Remove what interrupted runs left in an output folder, and what other settings made."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, or of a recipe with a folder for each stage."""
    stale: bool = False
    """Remove also the folders of stages that the recipe's last run did not use."""
    yes: bool = False
    """Do not ask."""

    def run(self) -> int:
        """List, ask, remove."""
        from flowpipe.runner import inspect

        found = [
            path for folder in inspect.stage_folders(self.out) for path in inspect.leftovers(folder)
        ]
        others = inspect.stale(self.out)
        if self.stale:
            found = [path for path in found if not any(map(path.is_relative_to, others))] + others
        console = Console(highlight=False)
        if others and not self.stale:
            size = decimal(sum(map(inspect.size_of, others)))
            console.print(f"folders of other settings: {len(others)}, {size}; --stale removes them")
        if not found:
            console.print("nothing to remove")
            return 0
        for path in found:
            size = decimal(inspect.size_of(path))
            console.print(Text(f"{size:>10}  {path}"), soft_wrap=True)
        if not self.yes and not Confirm.ask("Remove these?", default=False, console=console):
            return 1
        inspect.remove(found)
        return 0


@dataclass(frozen=True)
class Verify:
    """Check that what is stored is whole and belongs to its videos; the exit status is 1 if not."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, or of a recipe with a folder for each stage."""
    repair: bool = False
    """Remove what is not whole or not up to date, so that the next run makes it anew."""
    quick: bool = False
    """Go by lengths and times of files: read what has others than when it was finished."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Verify, and print a summary."""
        from flowpipe.pipelines.verify import verify

        workers = self.workers
        return verify(self.out, repair=self.repair, quick=self.quick, workers=workers).exit_status


@dataclass(frozen=True)
class Doctor:
    """Say which solvers run on this machine and, for each that does not, why and what brings it."""

    def run(self) -> int:
        """Print the report."""
        from flowpipe.commands import doctor

        doctor.report(Console())
        return 0


@dataclass(frozen=True)
class Demo:
    """Make a small labelled set of videos, run every stage on it, and say what lies where."""

    out: Path = Path("flowpipe-demo")
    """Folder for everything that it makes."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe.pipelines.demo import demo

        return demo(self.out, workers=self.workers)
