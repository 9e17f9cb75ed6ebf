"""Stages that several systems read, computed once: flow with frames, warped flow, trajectories."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flowpipe.datasets.base import Clip
from flowpipe.errors import FlowpipeError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.methods import METHODS
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.pipelines.flow import compute_flow
from flowpipe.pipelines.trajectories import track
from flowpipe.pipelines.warp import warp_flow
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import short_hash
from flowpipe.runner.run import Summary
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage

if TYPE_CHECKING:
    from flowpipe.pipelines.compare.system import Comparison

logger = logging.getLogger(__name__)

Kind = Literal["idt", "dt"]
Need = Literal["flow", "warped-flow", "trajectories-idt", "trajectories-dt"]
_TSN_SIZE = (340, 256)
_FIRST = (0.05, 0.25)
"""Shares of the clips after which the time of the rest is estimated, if there is a budget."""


@dataclass
class Shared:
    """Stages that several systems read.

    Attributes
    ----------
    given_flow
        Flow that is there already, with frames; None to compute it.
    done
        Folders that this run has computed, or found complete.
    """

    given_flow: Path | None = None
    done: set[Path] = field(default_factory=set)

    def flow_record(self, settings: Settings) -> Json | None:
        """Return what determines the flow; None of flow of another tool."""
        if self.given_flow is not None:
            return provenance.read_stage(self.given_flow)
        return flow_stage(settings).description()

    def folder(self, on: Comparison, need: Need) -> Path:
        """Return the folder of a stage, which need not have been computed."""
        if need == "flow":
            return self.given_flow or flow_folder(on.out, on.settings)
        if need == "warped-flow":
            record = WarpStage().description(self.flow_record(on.settings))
        else:
            record = trajectory_stage(on.settings, _kind(need)).description()
        return on.out / f"{need}-{short_hash(record)}"

    def get(self, on: Comparison, need: Need) -> Path:
        """Return the folder of a stage; compute what is missing.

        Raises
        ------
        OverBudgetError
            The rest does not fit into the budget.
        FlowpipeError
            All clips failed.
        """
        out = self.folder(on, need)
        if out in self.done or out == self.given_flow:
            return out
        if need == "warped-flow":
            flow = self.get(on, "flow")
            self._measured(
                on, need, out, lambda _: warp_flow(flow, out, WarpStage(), workers=on.workers)
            )
        elif need == "flow":
            stage = flow_stage(on.settings)
            self._measured(
                on, need, out, lambda part: compute_flow(part, out, stage, workers=on.workers)
            )
        else:
            tracked = trajectory_stage(on.settings, _kind(need))
            self._measured(
                on, need, out, lambda part: track(part, out, tracked, workers=on.workers)
            )
        self.done.add(out)
        return out

    def _measured(
        self, on: Comparison, need: Need, out: Path, extract: Callable[[list[Clip]], Summary]
    ) -> None:
        meter = on.meter(out.name)
        meter.uses(out)
        failed = 0
        # Warped flow is made of all flow in a folder at once.
        limited = on.budget.seconds is not None and need != "warped-flow"
        for part, share in _parts(on.clips, limited=limited):
            meter.require(f"the extraction of {need} of the clips that are left")
            with meter.part("extraction"):
                failed += extract(part).failed
            meter.finished(share)
        if failed >= len(on.clips):
            raise FlowpipeError(f"all {failed} clips failed; {str(out)!r} says why")


def _kind(need: Need) -> Kind:
    return "dt" if need == "trajectories-dt" else "idt"


def _parts(clips: Sequence[Clip], *, limited: bool) -> Iterator[tuple[list[Clip], float]]:
    """Yield the clips in parts, with the share that is done after each."""
    start = 0
    for share in (*(_FIRST if limited else ()), 1.0):
        stop = max(start + 1, round(share * len(clips)))
        if start < len(clips):
            yield list(clips[start:stop]), min(1.0, stop / len(clips))
        start = stop


def flow_stage(settings: Settings) -> FlowStage:
    """Return the extraction of flow and frames."""
    stage = FlowStage(
        parameters=METHODS["tvl1"].preset(settings.flow_preset),
        size=_TSN_SIZE if settings.size is None else settings.size,
        frames=True,
    )
    return replace(stage, backend=stage.solver)


def flow_folder(out: Path, settings: Settings) -> Path:
    """Return the folder, in the output folder of a comparison, of flow that is computed there."""
    return out / f"flow-{short_hash(flow_stage(settings).description())}"


def trajectory_stage(settings: Settings, kind: Kind) -> TrajectoryStage:
    """Return the extraction of trajectories of a kind."""
    return TrajectoryStage(parameters=TrajectoryParameters(kind=kind), size=settings.size)
