"""The data set of a stream: flow or frames, by what its network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpipe.twostream.clips import FlowClips, FrameClips, Transform
from flowpipe.twostream.parameters import Snippets
from flowpipe.twostream.sampling import Sampling


def stream_clips(
    source: Path,
    clips: Sequence[tuple[str, int]],
    snippets: Snippets,
    *,
    sampling: Sampling,
    transform: Transform | None,
    segments: int | None = None,
    seed: int = 0,
) -> FlowClips | FrameClips:
    """Clips as a stream sees them.

    Parameters
    ----------
    source
        Folder of ``extract-flow``.
    clips
        (clip name, class index) of each.
    snippets
        What the network takes.
    sampling, transform, seed
        As for :class:`FlowClips`.
    segments
        Instead of those of `snippets`.

    Raises
    ------
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.
    """
    segments = segments or snippets.segments
    if snippets.modality in ("flow", "warped-flow"):
        return FlowClips(
            source,
            clips,
            segments=segments,
            length=snippets.length,
            sampling=sampling,
            transform=transform,
            seed=seed,
            stacking=snippets.stacking,
        )
    return FrameClips(
        source,
        clips,
        segments=segments,
        length=snippets.length,
        sampling=sampling,
        transform=transform,
        modality="rgb" if snippets.modality == "rgb" else "rgb-diff",
        seed=seed,
    )
