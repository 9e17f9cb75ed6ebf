"""Plan a comparison: which systems are run, in which order, and what fits into the time left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from flowpipe.errors import FlowpipeError
from flowpipe.pipelines.compare.stored import Stored, stored
from flowpipe.pipelines.compare.system import Comparison, NotAvailableError, Prepared, System


@dataclass(frozen=True)
class Step:
    """A system of the plan.

    Attributes
    ----------
    name, system
        The system.
    prepared
        What it depends on, and how it is run; None if it cannot be run.
    stored
        Where its results are, or will be; None if it cannot be run.
    refused
        Why it cannot be run.
    is_mistake
        Whether that is an error in what was asked for, and no lack of weights.
    """

    name: str
    system: System
    prepared: Prepared | None = None
    stored: Stored | None = None
    refused: str = ""
    is_mistake: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it has been run."""
        return self.stored is not None and self.stored.is_done

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of its scores."""
        own = None if self.prepared is None else self.prepared.streams
        return self.system.streams if own is None else own


def plan(on: Comparison, systems: Mapping[str, System]) -> list[Step]:
    """Return a step for each system, in the order given."""
    return [_step(on, name, system) for name, system in systems.items()]


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Return steps in the order in which they are run: by rank, networks by their multiply-adds."""
    return sorted(steps, key=lambda step: (step.system.rank, _work(step)))


def _step(on: Comparison, name: str, system: System) -> Step:
    try:
        prepared = system.prepare(on)
    except NotAvailableError as error:
        return Step(name, system, refused=str(error))
    except FlowpipeError as error:
        return Step(name, system, refused=str(error), is_mistake=True)
    return Step(name, system, prepared, stored(name, system, prepared, on))


def _work(step: Step) -> float:
    """Return the multiply-adds of a system; 0 if unknown."""
    if step.prepared is None or step.stored is None:
        return 0.0
    try:
        cost = step.stored.cost() if step.is_done else step.prepared.cost()
    except FlowpipeError:  # such as clips that its network cannot take, which it says when it runs
        return 0.0
    return 0.0 if cost is None else cost.work


def estimate(on: Comparison, step: Step, steps: Sequence[Step]) -> float | None:
    """Return the seconds that a system will take beside shared stages; None if unknown.

    What was measured of the system itself before it was interrupted counts first; else the rate, in
    multiply-adds per second, of the networks that have been run.
    """
    if step.stored is None:
        return None
    own = on.meter(step.stored.job).remaining()
    if own is not None:
        return own
    rates = []
    for other in steps:
        if other.is_done and other.stored is not None and (work := _work(other)):
            seconds = on.meter(other.stored.job).seconds()
            rates += [work / seconds] if seconds else []
    work = _work(step)
    return work / median(rates) if work and rates else None
