"""Run the systems of a comparison as far as they have not been run, and write the page."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from flowpipe.classify.comparison import Statistics
from flowpipe.classify.metrics import Interval
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.protocols import protocol as choose_protocol
from flowpipe.classify.splits import CLASSIFIERS
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.flow.store import stored_clips
from flowpipe.pipelines.compare.measure import Budget, OverBudgetError
from flowpipe.pipelines.compare.plan import Step, estimate, in_order, plan
from flowpipe.pipelines.compare.results import write_results
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.pipelines.compare.shared import Shared
from flowpipe.pipelines.compare.system import Comparison, NotAvailableError
from flowpipe.pipelines.compare.systems import SYSTEMS, chosen
from flowpipe.pipelines.compare.weights import check_weights
from flowpipe.report.comparison import NotRun
from flowpipe.runner import atomic, json_files
from flowpipe.runner.inspect import note_used
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.pool.results import RunStoppedError
from flowpipe.training.runtime import TrainingRuntime

logger = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes
    ----------
    page
        The page, ``index.html``.
    accuracies
        Of each system that has been run, all its streams together, with Wilson's interval.
    not_run
        Why the others have not been run, by name.
    failed
        Names of those that failed.
    classifiers
        Folders of the classifiers of each system that has some, one for each stream, which
        :func:`flowpipe.load_classifier` and :func:`flowpipe.predict` take.
    """

    page: Path
    accuracies: Mapping[str, Interval]
    not_run: Mapping[str, str]
    failed: tuple[str, ...] = ()
    classifiers: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def compare(
    dataset: Dataset | str | PathLike[str],
    systems: Sequence[str] = ("control", "classical", "2d"),
    out: str | PathLike[str] = "compare",
    protocol: Protocol | str | None = None,
    settings: Settings | None = None,
    *,
    weights: Mapping[str, str] | None = None,
    flow: str | PathLike[str] | None = None,
    hours: float | None = None,
    runtime: TrainingRuntime | None = None,
    workers: Workers | int | None = None,
    **options: Any,
) -> Compared:
    """Run systems on the same clips, splits, frames and flow, and compare them on one page.

    Stages that several systems read are computed once. The cheapest systems are run first, and the
    page is written after each. A system that fails does not stop the others. An interrupted run is
    resumed by the same call.

    Parameters
    ----------
    dataset
        The labelled set, or its folder or list.
    systems
        Names of systems, or of groups: ``control``, ``classical``, ``frozen``, ``2d``, ``3d``,
        ``transformers``, ``all``.
    out
        The output folder: ``index.html``, ``metrics.json``, ``measurements.json``, and a folder per
        stage.
    protocol
        Training and test clips, as :func:`flowpipe.protocol` takes them.
    settings
        What is fixed before anything is tested.
    weights
        Initial weights by the name of a system, network or backbone, or ``all``: a file,
        ``default`` for torchvision's, or ``none`` for random ones, which are never taken unasked.
    flow
        Output folder of :func:`flowpipe.extract_flow` with ``frames=True``, in place of flow that
        is computed here.
    hours
        Time for this call. A system whose estimated time does not fit is left out; estimates are
        made from what was measured, between splits and parts of an extraction.
    runtime
        Device, data loading, checkpoints.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    **options
        Fields of `settings`: ``epochs=10``, ``gaussians=64``.

    Returns
    -------
    Compared
        The page, the accuracies, and what was not run.

    Raises
    ------
    ParameterError
        A system or an option is unknown, or out of range; a file of weights does not exist.
    FormatError
        The set cannot be read.
    RunStoppedError
        The output cannot be written.

    Examples
    --------
    >>> import flowpipe
    >>> found = flowpipe.compare("videos", ["clip-size", "idt"], gaussians=4)
    >>> sorted(found.accuracies), found.failed
    (['clip-size', 'idt'], ())
    """
    if "WORLD_SIZE" in os.environ:
        from flowpipe.training.distributed import alone  # which imports torch

        alone("compare")
    if hours is not None and not 0 < hours < math.inf:
        raise ParameterError(f"hours is {hours:g}; it must be more than 0, and finite")
    asked = chosen(systems)
    weights = dict(weights or {})
    check_weights(weights, SYSTEMS)
    settings = (settings or Settings()).changed(**options)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ParameterError(f"out is {str(out)!r}, which is a file; it must be a folder")
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset)
    if not isinstance(protocol, Protocol):
        protocol = choose_protocol(dataset, protocol)
    if flow is not None and not any(stored_clips(Path(flow))):
        raise ParameterError(
            f"flow is {str(flow)!r}, which holds no flow; it must be one of extract-flow"
        )
    on = Comparison(
        dataset,
        protocol,
        out,
        settings,
        weights,
        runtime or TrainingRuntime(),
        as_workers(workers),
        Budget(None if hours is None else 3600 * hours),
        Shared(None if flow is None else Path(flow)),
    )
    return _Run(on, asked).finish()


class _Run:
    """One call: the plan, and what has become of each system."""

    def __init__(self, on: Comparison, asked: Sequence[str]) -> None:
        self.on = on
        record_dataset(on.dataset, on.out)
        atomic.remove_stale(on.out)
        for note in on.protocol.notes:
            logger.info(f"note: {note}")
        every = plan(on, SYSTEMS)
        self.steps = in_order([step for step in every if step.name in asked])
        # Systems of an earlier call with the same settings are shown, too.
        self.done = {step.name: step for step in every if step.is_done}
        self.not_run: dict[str, NotRun] = {}
        for step in self.steps:
            if step.name not in self.done:
                self._note(step, "waiting", "it is yet to be run")

    def finish(self) -> Compared:
        """Run what has not been run, and return what was found."""
        self._record_settings()
        left = [step for step in self.steps if step.name not in self.done]
        logger.info(
            f"{len(self.steps)} systems, {len(self.steps) - len(left)} of them run already; "
            f"{len(self.on.protocol.splits)} splits -> {self.on.out}"
        )
        for step in left:
            if self._run(step):
                self._write()
                logger.info(self._line(step.name))
        found = self._write()  # with what became of the last ones
        page = self.on.out / "index.html"
        accuracies = {
            name: result.whole.accuracy.accuracy for name, result in found.systems.items()
        }
        logger.info(f"page: {page}")
        failed = tuple(name for name, each in self.not_run.items() if each.kind == "failed")
        return Compared(
            page,
            accuracies,
            {name: each.reason for name, each in self.not_run.items()},
            failed,
            {name: kept for name, step in self.done.items() if (kept := self._classifiers(step))},
        )

    def _run(self, step: Step) -> bool:
        """Run a system; return whether it has results."""
        on, name = self.on, step.name
        if step.prepared is None or step.stored is None:
            self._note(step, "failed" if step.is_mistake else "unavailable", step.refused)
            logger.warning(f"{name} has no results: {step.refused}")
            return False
        meter = on.meter(step.stored.job)
        try:
            on.budget.require(estimate(on, step, list(self.done.values())), "all of it")
            logger.info(f"{name}: {step.system.title}")
            scores = step.prepared.run(meter)
            step.stored.write(scores, step.prepared.cost(), on.out)
        except RunStoppedError:
            raise
        except OverBudgetError as error:
            self._note(step, "budget", str(error))
        except NotAvailableError as error:
            self._note(step, "unavailable", str(error))
        except FlowpipeError as error:
            self._note(step, "failed", str(error))
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._note(step, "failed", str(error))
        except Exception as error:  # a defect of one system takes nothing from the others
            logger.exception(f"{name} failed")
            self._note(step, "failed", f"{type(error).__name__}: {error}")
        else:
            meter.finished(1)
            self.done[name] = step
            self.not_run.pop(name, None)
            return True
        logger.warning(f"{name} has no results: {self.not_run[name].reason}")
        return False

    def _note(self, step: Step, kind: str, reason: str) -> None:
        self.not_run[step.name] = NotRun(step.name, step.system.group, kind, reason)

    def _record_settings(self) -> None:
        """Write the settings of all systems, before any of them is tested."""
        content = {
            "settings": asdict(self.on.settings),
            "protocol": self.on.protocol.name,
            "clips": self.on.clip_digest,
            "systems": {
                step.name: step.prepared.settings
                for step in self.steps
                if step.prepared is not None
            },
        }
        atomic.write_atomic(self.on.out / "settings.json", json_files.to_json(content), self.on.out)

    def _write(self) -> Statistics:
        on = self.on
        order = [step for name, step in self.done.items()]
        order.sort(key=lambda step: list(SYSTEMS).index(step.name))
        self._found = write_results(on, order, list(self.not_run.values()))
        folders = {on.out / name for step in self._started() for name in self._folders(step)}
        note_used(on.out, [folder for folder in folders if folder.is_dir()])
        atomic.remove_stale(on.out)
        return self._found

    def _started(self) -> list[Step]:
        return [*self.done.values(), *self.steps]

    def _folders(self, step: Step) -> list[str]:
        if step.stored is None or step.prepared is None:
            return []
        shared = [self.on.shared.folder(self.on, need).name for need in step.prepared.needs]
        own = self.on.meter(step.stored.job).read()["folders"]
        return [step.stored.folder.name, *shared, *own]

    def _classifiers(self, step: Step) -> tuple[Path, ...]:
        folders = (self.on.out / name for name in self._folders(step))
        return tuple(folder for folder in folders if (folder / CLASSIFIERS).is_dir())

    def _line(self, name: str) -> str:
        accuracy = self._found.systems[name].whole.accuracy.accuracy
        return (
            f"{name:20s} {100 * accuracy.value:5.1f} % of {len(self._found.tests)} tests "
            f"(95 %: {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
        )
