"""Train detectors on stored features of videos with labelled intervals, split by split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from flowpipe._options import with_options
from flowpipe.datasets.base import Split
from flowpipe.datasets.intervals import IntervalSet
from flowpipe.datasets.load import AUTO
from flowpipe.errors import check_range
from flowpipe.models.detectors import DETECTOR_NAME
from flowpipe.pipelines.detection_data import LabelledSteps, labelled_steps
from flowpipe.pipelines.training_progress import TrainingProgress
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.detection.files import load_detector_file
from flowpipe.training.detection.networks import (
    keep_networks,
    match_networks,
    needs_file,
    network_files,
)
from flowpipe.training.detection.parameters import (
    DetectorPreset,
    DetectorTraining,
    detector_preset,
)
from flowpipe.training.detection.train import train_windows
from flowpipe.training.detection.windows import StepWindows
from flowpipe.training.distributed import alone, pick_device

logger = logging.getLogger(__name__)


def train_detector(
    dataset: IntervalSet | str | PathLike[str],
    features: Sequence[str | PathLike[str]] | str | PathLike[str],
    out: str | PathLike[str] = "detector",
    parameters: DetectorTraining | DetectorPreset = "small",
    *,
    protocol: str | None = None,
    splits: Sequence[str] = (),
    final: bool = False,
    networks: Sequence[str | PathLike[str]] = (),
    videos: str | PathLike[str] | None = None,
    kind: str = AUTO,
    leave_out_unusable: bool = False,
    device: str = "auto",
    checkpoint_every: int = 200,
    **options: Any,
) -> list[Path]:
    """Train detectors on features of videos with labelled intervals, one for each split.

    An interrupted run resumes from its last checkpoint; with the same number of threads, a CPU
    gives the same detector bit for bit.

    Parameters
    ----------
    dataset
        The set, or what :func:`flowpipe.load_intervals` takes.
    features
        Folders of :func:`flowpipe.extract_features` with the same stride, which are joined: those
        of frames and of flow, for example.
    out
        The output folder: for each split a folder with ``detector.safetensors``, ``log.csv`` and
        ``curves.png``.
    parameters
        What is trained, or the name of a preset: ``small`` for sets of some thousand steps, or
        ``published``.
    protocol
        ``official``, ``loo``, ``5-fold`` or a JSON file of splits; by default the official splits
        of the set, or leave one group out.
    splits
        Names of the splits to train for; by default all.
    final
        Also train a detector on all videos, for new ones.
    networks
        The networks that the features come from, files of weights or folders of
        :func:`flowpipe.train`, which are kept with the detectors for new videos. Published weights
        that are known by name need none.
    videos, kind
        As for :func:`flowpipe.load_intervals`.
    leave_out_unusable
        Leave out videos without features, or with damaged ones, which are logged, in place of an
        error.
    device
        Where detectors are trained: ``cpu``, a torch device, or a GPU if there is one.
    checkpoint_every
        Number of training steps between checkpoints.
    **options
        Changes of single parameters, such as ``model="lstm"`` or ``epochs=10``.

    Returns
    -------
    list of Path
        The files of the detectors, in the order of the splits.

    Raises
    ------
    ParameterError
        The features do not fit together, reach beyond the present, or an option does not apply.
    UnusableClipsError
        Videos have no features, or damaged ones; all are listed.
    StageMismatchError
        The folder holds detectors of other parameters or features.

    Notes
    -----
    X. Wang et al., "OadTR: Online Action Detection with Transformers", ICCV 2021.

    Examples
    --------
    >>> import flowpipe
    >>> short = {"min_frames": 8, "max_frames": 12, "min_gap": 4, "max_gap": 6}
    >>> _ = flowpipe.write_untrimmed("untrimmed", n_groups=2, videos_per_group=1, **short)
    >>> _ = flowpipe.extract_flow("untrimmed", "untrimmed-flow", flowpipe.FlowStage(size=None))
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> _ = flowpipe.train("videos", "flow", "net", "small", splits=["split1"], **options)
    >>> _ = flowpipe.extract_features("untrimmed-flow", "untrimmed-features", "net", stride=4)
    >>> paths = flowpipe.train_detector(
    ...     "untrimmed", "untrimmed-features", "detector", epochs=1, final=True, networks=["net"]
    ... )
    >>> [str(path) for path in paths][-1]
    'detector/final/detector.safetensors'
    """
    alone("train-detector")
    check_range("checkpoint_every", checkpoint_every, 1)
    if not isinstance(parameters, DetectorTraining):
        parameters = detector_preset(parameters, options.get("model", "oadtr"))
    training: DetectorTraining = with_options(options, parameters)[0]
    labelled = labelled_steps(
        dataset,
        features,
        protocol,
        videos=videos,
        kind=kind,
        leave_out_unusable=leave_out_unusable,
    )
    kept = match_networks(labelled.records, network_files([Path(each) for each in networks]))
    out = Path(out)
    provenance.open_stage(out, {**training.description(), **labelled.description()})
    record = json_files.to_json(labelled.dataset.description())
    atomic.write_atomic(out / provenance.RECORDS / "dataset.json", record, out)
    chosen = labelled.chosen(splits, final=final)
    if len(chosen) > 1:
        logger.info(f"{len(chosen)} splits, a detector for each")
    paths = []
    for split in chosen:
        folder = labelled.folder(split, out)
        about = {
            **labelled.description(),
            "split": split.name,
            "labels": labelled.training_labels(split),
            "training": training.description(),
        }
        _train_split(labelled, split, folder, training, about, device, checkpoint_every)
        keep_networks(kept, folder)
        atomic.remove_stale(folder)
        paths.append(folder / DETECTOR_NAME)
    if final and any(
        needs_file(record) and file is None
        for record, file in zip(labelled.records, kept, strict=True)
    ):
        logger.warning(
            "the networks that the features come from are not kept with the detectors; new videos "
            "need them: name them by --networks"
        )
    atomic.remove_stale(out)
    return paths


def _train_split(
    labelled: LabelledSteps,
    split: Split,
    folder: Path,
    parameters: DetectorTraining,
    about: Json,
    device: str,
    checkpoint_every: int,
) -> None:
    """Train the detector of a split, unless it is trained."""
    name, train = split.name, split.train
    path = folder / DETECTOR_NAME
    if path.exists() and load_detector_file(path).about.get("labels") != about["labels"]:
        logger.info(f"{name}: intervals of training videos have changed; it is trained again")
        path.unlink()
        (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
    options = parameters.options()
    targets = [labelled.labels(each).targets() for each in train]
    windows = StepWindows(
        labelled.of(train), targets, options.get("steps", 1), options.get("future", 0)
    )
    if path.exists():
        logger.info(f"{name}: trained already")
    else:
        logger.info(f"{name}: {len(train)} videos, {len(windows)} steps, {parameters.model}")
    progress = TrainingProgress(name, "steps")
    train_windows(
        windows,
        labelled.n_features,
        labelled.dataset.classes,
        parameters,
        folder,
        about,
        device=pick_device(device),
        checkpoint_every=checkpoint_every,
        advance=progress.advance,
        report=progress.finish_epoch,
    )
