"""The commands ``status``, ``verify``, ``clean``, ``doctor`` and ``demo``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.filesize import decimal
from rich.prompt import Confirm
from rich.text import Text
from tyro.conf import Positional, arg

from flowpipe._options import Switch
from flowpipe.commands.options import WorkerOptions, reporting_workers


@dataclass(frozen=True)
class Status:
    """Show the contents of an output folder and the progress of its run.

    Shown are clips done and failed, rate, time left and disk space. The exit status is 1 if clips
    failed.
    """

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, or a folder of such folders."""
    json: Switch = False
    """Print the status as JSON."""

    def run(self) -> int:
        """Print the status, and return the exit status."""
        from flowpipe.report import status_text
        from flowpipe.runner.inspect import stage_folders, status

        stages = [status(folder) for folder in stage_folders(self.out)]
        if self.json:
            print(status_text.as_json(stages))
        else:
            for stage in stages:
                Console(highlight=False).print(status_text.as_text(stage), soft_wrap=True)
        return 1 if any(stage.failures for stage in stages) else 0


@dataclass(frozen=True)
class Clean:
    """Remove temporary files of interrupted runs, and on request outputs of other settings."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, or a folder of such folders."""
    stale: Switch = False
    """Also remove the stage folders that the last idt-baseline or two-stream run did not use."""
    yes: Switch = False
    """Remove without asking."""

    def run(self) -> int:
        """List the files, ask, and remove them."""
        from flowpipe.runner import inspect

        paths = [
            path for folder in inspect.stage_folders(self.out) for path in inspect.leftovers(folder)
        ]
        others = inspect.stale(self.out)
        if self.stale:
            paths = [path for path in paths if not any(map(path.is_relative_to, others))] + others
        console = Console(highlight=False)
        if others and not self.stale:
            size = decimal(sum(map(inspect.size_of, others)))
            console.print(f"folders of other settings: {len(others)}, {size}; --stale removes them")
        if not paths:
            console.print("nothing to remove")
            return 0
        for path in paths:
            size = decimal(inspect.size_of(path))
            console.print(Text(f"{size:>10}  {path}"), soft_wrap=True)
        if not self.yes and not Confirm.ask("Remove these?", default=False, console=console):
            return 1
        inspect.remove(paths)
        return 0


@dataclass(frozen=True)
class Verify:
    """Check that stored outputs are undamaged and belong to their videos.

    The exit status is 1 if some are not.
    """

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Output folder of a stage, a folder of such folders, or the stored flow of one clip."""
    repair: Switch = False
    """Remove damaged and outdated outputs, so that the next run computes them again."""
    quick: Switch = False
    """Skip clips whose files have the same sizes and timestamps as when they were finished."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Verify the outputs, and return the exit status."""
        from flowpipe.pipelines.verify import verify

        workers = self.workers
        return verify(self.out, repair=self.repair, quick=self.quick, workers=workers).exit_status


@dataclass(frozen=True)
class Doctor:
    """Show which solvers run on this machine, how to get the others, and what flowpipe offers."""

    def run(self) -> int:
        """Print the report, and return the exit status."""
        from flowpipe.commands import doctor

        doctor.report(Console())
        return 0


@dataclass(frozen=True)
class Demo:
    """Draw a small labelled set of videos, compare six systems on it, and label a new video.

    Systems are from dense trajectories to temporal relation networks. It takes minutes, and ends
    with a page.
    """

    out: Path = Path("flowpipe-demo")
    """Output folder."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Run the demo, and return the exit status."""
        from flowpipe.pipelines.demo import demo

        return demo(self.out, workers=self.workers)
