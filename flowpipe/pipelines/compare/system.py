"""What the table of systems has for each, and what a comparison hands to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from flowpipe.classify.protocols import Protocol as Splits
from flowpipe.classify.scores import Scores
from flowpipe.datasets.base import Clip, Dataset
from flowpipe.errors import FlowpipeError
from flowpipe.pipelines.compare.measure import Budget, Meter
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers
from flowpipe.training.runtime import TrainingRuntime

if TYPE_CHECKING:
    from flowpipe.pipelines.compare.shared import Need, Shared

Group = Literal["control", "classical", "frozen", "2d", "3d", "transformers"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Groups in the order of the page."""


class NotAvailableError(FlowpipeError):
    """A system cannot be run here; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """What all systems are given: the set, its splits, the settings, and where outputs go.

    Attributes
    ----------
    dataset, protocol
        The clips, and which of them train and which are tested.
    out
        The output folder.
    settings
        What is fixed before anything is tested.
    weights
        Initial weights by the name of a system, network or backbone, or ``all``.
    runtime, workers
        Where and how networks and the other stages run.
    budget
        The time that is left.
    shared
        Flow, frames and trajectories, computed once.
    """

    dataset: Dataset
    protocol: Splits
    out: Path
    settings: Settings
    weights: Mapping[str, str]
    runtime: TrainingRuntime
    workers: Workers
    budget: Budget
    shared: Shared

    @cached_property
    def clips(self) -> list[Clip]:
        """The clips of the protocol."""
        return [clip for clip in self.dataset.clips if clip.name in self.protocol.names]

    @cached_property
    def clip_digest(self) -> str:
        """What tells the clips, the splits and the labels of training clips apart."""
        splits = [[split.name, split.train, split.test] for split in self.protocol.splits]
        sizes = sorted((clip.name, _size(clip.path)) for clip in self.clips)
        labels = self.protocol.training_labels()
        return provenance.digest([splits, sizes, list(self.protocol.classes), labels])

    def weights_for(self, *names: str) -> str | None:
        """Return the initial weights that were given for the first of some names, or for all."""
        return next((self.weights[name] for name in (*names, "all") if name in self.weights), None)

    def meter(self, job: str) -> Meter:
        """Return what measures a system or a shared stage."""
        return Meter(self.out, job, self.budget)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True)
class Cost:
    """What a network takes.

    Attributes
    ----------
    parameters
        Number of weights, of all streams together.
    multiply_adds
        Multiplications with an addition for one test clip, of all views and streams.
    work
        The same of all that is trained and tested, for estimates.
    """

    parameters: int
    multiply_adds: int
    work: float


class Run(Protocol):
    """Run a system as far as it has not been run."""

    def __call__(self, meter: Meter) -> Mapping[str, Scores]:
        """Return the scores of each stream."""


@dataclass(frozen=True)
class Prepared:
    """A system with all that it depends on, ready to run.

    Attributes
    ----------
    settings
        All that determines its scores, beside clips, splits and training labels.
    run
        Run it.
    needs
        Shared stages that it reads.
    cost
        Return what its networks take; None where there are none.
    streams
        Names of its scores; None: all of the system.
    """

    settings: Json
    run: Run
    needs: tuple[Need, ...] = ()
    cost: Callable[[], Cost | None] = lambda: None
    streams: tuple[str, ...] | None = None


@dataclass(frozen=True)
class System:
    """A system that a user can ask for by name.

    Attributes
    ----------
    group
        Its group, which is a name of ``--systems``, too.
    title
        What it is, in one line.
    published
        Authors, title, venue.
    streams
        Names of its scores, if all are run.
    rank
        Order in which systems are run, the cheapest first.
    prepare
        Return the system for a comparison.

        It raises NotAvailableError where the system cannot be run.
    """

    group: Group
    title: str
    published: str
    streams: tuple[str, ...]
    rank: int
    prepare: Callable[[Comparison], Prepared]
