"""The classical baseline: videos, trajectories, encodings, machines, an accuracy."""

from __future__ import annotations

import logging
from pathlib import Path

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol
from flowpipe.datasets.base import Dataset
from flowpipe.encoding.parameters import Encoding
from flowpipe.pipelines.classify import RESULTS, classify
from flowpipe.pipelines.classify import description_of as classifying
from flowpipe.pipelines.encode import description_of as encoding_of
from flowpipe.pipelines.encode import encode
from flowpipe.pipelines.trajectories import track
from flowpipe.runner import atomic
from flowpipe.runner.inspect import note_used
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import short_hash
from flowpipe.runner.run import Shard
from flowpipe.runner.stage import timed, times_of
from flowpipe.trajectories.stage import TrajectoryStage

logger = logging.getLogger(__name__)


def idt_baseline(
    dataset: Dataset,
    protocol: Protocol,
    out: Path,
    stage: TrajectoryStage,
    encoding: Encoding,
    svm: Svm,
    *,
    device: str = "cpu",
    workers: Workers,
    shard: Shard | None = None,
) -> int:
    """Classify a labelled set by its trajectories; return the exit status.

    Every stage has a folder of its own in `out`, named by the stage and a hash of what determines
    it, so that a run with another setting makes anew only what follows from that setting.

    Parameters
    ----------
    dataset, protocol
        The clips, and which of them train and which are tested.
    out
        The folder of all that is made; the results of the last run stand in it directly.
    stage, encoding, svm
        Parameters of the stages.
    device
        Where Fisher vectors are computed.
    workers
        Who does it.
    shard
        Extract the trajectories of this part of the clips, and stop.
    """
    for note in protocol.notes:
        logger.info(f"note: {note}")
    clips = [clip for clip in dataset.clips if clip.name in protocol.labels]
    tracks = out / f"trajectories-{short_hash(stage.description())}"
    tracked = timed(
        tracks, "extraction", lambda: track(clips, tracks, stage, workers=workers, shard=shard)
    )
    if shard is not None:
        return tracked.exit_status
    vectors = out / f"encode-{short_hash(encoding_of(protocol, tracks, encoding, device))}"
    encoded = encode(clips, protocol, tracks, vectors, encoding, device=device, workers=workers)
    scores = out / f"classify-{short_hash(classifying(vectors, svm))}"
    times = {
        **{f"trajectories: {part}": took for part, took in times_of(tracks).items()},
        **{f"encode: {part}": took for part, took in times_of(vectors).items()},
    }
    other_runs = sorted(out.glob("classify-*"))
    title = f"{dataset.name}: {stage.parameters.kind} trajectories, {encoding.encoding}"
    classify(vectors, scores, svm, title=title, other_runs=other_runs, times=times, workers=workers)
    for name in RESULTS:
        atomic.write_atomic(out / name, (scores / name).read_bytes(), out)
    note_used(out, [tracks, vectors, scores])
    logger.info(f"report: {out / 'report.html'}")
    return max(tracked.exit_status, encoded.exit_status)
