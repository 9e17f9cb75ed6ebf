"""Extract flow of new videos as a record says that flow was extracted for training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.datasets.base import Clip
from flowpipe.flow.extract import ExtractFlow, FlowStage, stage_of
from flowpipe.flow.store import StoredClip, layout
from flowpipe.flow.warp import WarpFlow
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Work

FLOW = ".flow"
"""Folder, in that of an extraction, of the flow that it is made from."""


@dataclass(frozen=True)
class RecordedFlow:
    """Flow, warped or not, of which there is a record.

    Attributes
    ----------
    record
        The record; that of warped flow holds the flow's.
    where
        Where it was read, for messages.
    with_frames
        Whether frames are needed too: stored with the flow, if they were.
    """

    record: Json
    where: str
    with_frames: bool = False

    @property
    def is_warped(self) -> bool:
        """Whether the camera's motion was taken out of it."""
        return bool(self.record["stage"] == "warped-flow")

    def stage(self) -> FlowStage:
        """Return the extraction of the flow, before any warping.

        Raises
        ------
        FormatError
            The record is damaged, or of another version.
        """
        upstream = self.record.get("flow")
        return stage_of(upstream if isinstance(upstream, dict) else self.record, self.where)

    def needed(self) -> FlowStage:
        """Return the extraction of the flow; of stored frames, too, if those are needed.

        The warping may have seen them.
        """
        stage = self.stage()
        if self.is_warped or self.with_frames:
            return stage
        coded = layout(stage.layout).coding == "jpeg"
        return replace(stage, frames=False, quality=stage.quality if coded else None)

    def description(self) -> Json:
        """Return the record of what is extracted, on this machine."""
        upstream = self.needed().description()
        return self._warp().description(upstream) if self.is_warped else upstream

    def work(self, out: Path) -> Work[Clip]:
        """Return the work that extracts it into a folder."""
        stage = self.needed()
        return (
            ExtractWarpedFlow(stage, self._warp(), out)
            if self.is_warped
            else ExtractFlow(stage, out)
        )

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the extraction has temporary files."""
        return [out, out / FLOW] if self.is_warped else [out]

    def stored(self, clip: Clip, out: Path) -> StoredClip:
        """Return the flow of a clip that has been extracted into a folder."""
        kind = self._warp().layout if self.is_warped else self.stage().layout
        return StoredClip(out, clip.name, kind)

    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return the files and folders of a clip that has been extracted into a folder."""
        stage = self.stage()
        flow = layout(stage.layout, stage.step)
        if not self.is_warped:
            return flow.outputs(out, clip.name, frames=self.with_frames and stage.frames)
        warped = layout(self._warp().layout).outputs(out, clip.name, frames=False)
        return [*warped, *flow.outputs(out / FLOW, clip.name, frames=stage.frames)]

    def _warp(self) -> WarpStage:
        return WarpStage(self.record["layout"], self.record["dtype"], self.record["quality"])


@dataclass(frozen=True)
class ExtractWarpedFlow:
    """Extract flow, and take the camera's motion out of it."""

    stage: FlowStage
    warp: WarpStage
    out: Path

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Write the warped flow, unless it is there."""
        flow = self.out / FLOW
        done = ExtractFlow(self.stage, flow)(clip, advance)
        stored = StoredClip(flow, clip.name, self.stage.layout)
        WarpFlow(self.warp, self.out)(stored, lambda units: None)
        return done
