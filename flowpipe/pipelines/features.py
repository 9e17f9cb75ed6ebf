"""Features of the windows of every clip of a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from flowpipe._options import with_options
from flowpipe.errors import ParameterError
from flowpipe.flow import store
from flowpipe.models.probes import PROBE_NAME
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import read_about
from flowpipe.pipelines.evaluate import check_flow
from flowpipe.prediction.fusion import FILE as FUSION
from flowpipe.prediction.load import find_classifier
from flowpipe.prediction.trajectories import TrajectoryClassifier
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import Shard, Summary, run_stage
from flowpipe.training.distributed import alone, pick_device
from flowpipe.training.features.layouts import check_names, read_record
from flowpipe.training.features.map_layers import is_cropped, resolved
from flowpipe.training.features.maps import MapFeatures, keep_network
from flowpipe.training.features.network import NetworkFeatures
from flowpipe.training.features.sources import (
    NetworkSource,
    PublishedNetwork,
    TrainedNetwork,
    check_layer,
    check_length,
    default_length,
    describe,
)
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.features.tracks import TrackFeatures
from flowpipe.training.train import MODEL_NAME
from flowpipe.trajectories.verify import stored_tables

logger = logging.getLogger(__name__)

_BASE, _COPIES = 400 << 20, 48
"""Memory of a worker: bytes of libraries, and of maps in sizes of the input (I3D)."""
_DECISIVE = ("stage", "parameters", "flow", "tvl1", "size", "boxes")
"""Settings of trajectories that change their descriptors."""


def extract_features(
    source: str | PathLike[str],
    out: str | PathLike[str] = "features",
    classifier: str | PathLike[str] | None = None,
    stage: FeatureStage | None = None,
    published: PublishedNetwork | None = None,
    *,
    device: str = "auto",
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Summary:
    """Compute features of the windows of every clip in a folder, an array per clip.

    Parameters
    ----------
    source
        Folder of flow or frames in any layout, or of trajectories for a classifier of
        ``idt-baseline``.
    out
        The output folder; created where it does not exist.
    classifier
        A folder of :func:`flowpipe.train` or :func:`flowpipe.idt_baseline`, or of one of its
        splits. A network's features are what its last layer sees, those of trajectories Fisher
        vectors or bags of words.
    stage
        Windows of a clip, and the layout of the arrays.
    published
        A network with published weights, in place of a classifier.
    device
        Device of a network: ``cpu``, a torch device such as ``cuda:1``, or a GPU if there is one.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core. With a GPU there is one.
    shard
        The part of the clips to process, such as ``"2/8"``; by default all.
    overwrite
        Compute features again that are up to date.
    **options
        Fields of `stage` and `published`, in place of their values: ``length=16``, ``stride=4``,
        ``layout="actionformer"``, ``model="resnet50"``.

    Returns
    -------
    Summary
        How many clips were done, skipped and failed.

    Raises
    ------
    StageMismatchError
        The folder holds features of another network, or of other windows.
    ParameterError, FormatError
        There is no network, or it does not fit the windows or the flow; there are no clips; an
        option is unknown or out of range.

    Examples
    --------
    >>> import flowpipe, numpy
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> models = flowpipe.train("videos", "flow", "net", "small", splits=["split1"], **options)
    >>> summary = flowpipe.extract_features("flow", "features", "net", stride=1)
    >>> numpy.load("features/zoom/g01_c01_still.npy").shape  # 19 flow fields, windows of 5
    (15, 1024)
    """
    alone("features")
    source, out = Path(source), Path(out)
    stage, published = with_options(
        options, stage or FeatureStage(), published or PublishedNetwork()
    )
    if source.resolve() == out.resolve():
        raise ParameterError(
            f"features of what is in {str(source)!r} cannot go into its own folder; name another"
        )
    workers = as_workers(workers)
    origin: NetworkSource
    path = None
    if classifier is None:
        origin = published.with_length(stage.length)
    else:
        if given := published.given():
            raise ParameterError(
                f"{given[0]} is {getattr(published, given[0])!r}; it applies to a published "
                f"network, and classifier is {str(classifier)!r}"
            )
        path = find_classifier(Path(classifier))
        if path.name == FUSION:
            raise ParameterError(
                f"classifier is {str(path)!r}, a fusion; name the folder of a member, such as "
                f"{str(path.parent / '1')!r}"
            )
        if path.name == PROBE_NAME:
            raise ParameterError(
                f"classifier is {str(path)!r}, a head on maps; features are those of a network or "
                "of trajectories"
            )
        origin = TrainedNetwork(path)
    if path is None or path.name == MODEL_NAME:
        task = _of_network(source, out, origin, stage, device, workers, overwrite)
    else:
        if device != "auto":
            raise ParameterError(f"device is {device!r}; it applies to networks")
        task = _of_tracks(source, out, path, stage, workers, overwrite)
    check_names(stage.layout, [clip.name for clip in task.clips])
    provenance.open_stage(out, task.description)
    if task.network is not None:
        keep_network(out, task.network, task.description["network"])
    logger.info(f"{len(task.clips)} clips, {task.title}, {_of_what(task.work.stage)} -> {out}")
    summary = run_stage(
        task.work,
        task.clips,
        out=out,
        workers=task.workers,
        shard=shard,
        unit="maps" if task.work.stage.stores_maps else "windows",
        outputs=lambda clip: task.work.files(clip).all,
        overwrite=overwrite,
    )
    _log_settings(task)
    return summary


@dataclass(frozen=True)
class _Task:
    """What is computed of which clips; the network is kept with its maps."""

    work: NetworkFeatures | MapFeatures | TrackFeatures
    clips: Sequence[Any]
    description: Json
    title: str
    workers: Workers
    network: StreamNetwork | None = None


def _of_network(
    source: Path,
    out: Path,
    origin: NetworkSource,
    stage: FeatureStage,
    device: str,
    workers: Workers,
    overwrite: bool,
) -> _Task:
    network = origin.load()
    seen = network.clip
    if stage.stores_maps:
        stage = resolved(network, stage)
    else:
        stage = stage.of_length(default_length(network))
        assert stage.length is not None
        check_length(network, stage.length)
        check_layer(network, stage.layer)
    if isinstance(origin, TrainedNetwork) and seen.has_flow:
        check_flow(origin.path, _trained_on(origin.path), source)
    found = store.stored_clips(source, frames_only=not seen.has_flow)
    clips = sorted(found, key=lambda clip: clip.name)
    if not clips:
        raise ParameterError(store.no_flow(source))
    described = describe(origin, network)
    made_with = {**stage.description(), "network": described}
    if stage.stores_maps and is_cropped(network):
        made_with["cropped"] = True
    key = provenance.digest(made_with)
    trained_on = origin.trained_on() if isinstance(origin, TrainedNetwork) else {}
    weights = sum(each.numel() * each.element_size() for each in network.parameters())
    length, side = stage.length or seen.length, stage.short_side or seen.input_size
    pixels = length * -(-seen.channels // seen.length) * side**2
    workers = workers.within_memory(_BASE + 2 * weights + 4 * _COPIES * stage.crops * pixels)
    if pick_device(device).type != "cpu":
        workers = replace(workers, jobs=min(workers.local_jobs, 1))
    kind = MapFeatures if stage.stores_maps else NetworkFeatures
    return _Task(
        kind(origin, stage, out, seen, described["weights"], key, device, overwrite),
        clips,
        {**made_with, **trained_on, "source": provenance.read_stage(source)},
        f"{stage.stored} of {network.network.model} on {seen.modality}",
        workers,
        network if stage.stores_maps else None,
    )


def _of_tracks(
    source: Path,
    out: Path,
    path: Path,
    stage: FeatureStage,
    workers: Workers,
    overwrite: bool,
) -> _Task:
    classifier = TrajectoryClassifier.load(path)
    if stage.length is None and not stage.stores_maps:
        raise ParameterError(
            "length is not given; trajectories need it, such as length 64 and stride 16 frames"
        )
    for name, usual in (("crops", 1), ("layer", None), ("maps", None), ("tokens", None)):
        if (value := getattr(stage, name)) != usual:
            raise ParameterError(f"{name} is {value!r}; it applies to networks")
    if stage.entry.has_times:
        raise ParameterError(
            f"layout is {stage.layout!r}, which stores times; trajectories have none"
        )
    recorded = provenance.read_stage(source) or {}
    tables = list(stored_tables(source))
    if recorded.get("stage") != "trajectories" or not tables:
        raise ParameterError(
            f"{str(source)!r} holds no trajectories, on which {str(path)!r} was trained; make them "
            "with extract-trajectories"
        )
    for difference in provenance.differences(classifier.stage, recorded):
        message = f"{str(path)!r} was trained on other trajectories: {difference}"
        if difference.name.partition(".")[0] in _DECISIVE:
            raise ParameterError(f"{message}; extract them with the same parameters")
        logger.warning(message)
    encoding = classifier.encoding
    weights = f"sha256 {provenance.sha256(path)}"
    encoders = {**encoding.description(), "weights": weights}
    del encoders["stage"]
    made_with = {**stage.description(), "encoders": encoders}
    key = provenance.digest(made_with)
    return _Task(
        TrackFeatures(classifier.encoders, encoding, stage, out, weights, key, overwrite),
        tables,
        {**made_with, "source": recorded},
        f"{encoding.encoder.title} of trajectories",
        workers,
    )


def _of_what(stage: FeatureStage) -> str:
    if stage.stores_maps:
        return f"every {stage.map_stride}"
    return f"windows of {stage.windows.length} every {stage.windows.stride}"


def _log_settings(task: _Task) -> None:
    """Log the settings with which another program reads the features."""
    stage = task.work.stage
    records = (read_record(task.work.files(clip).record) for clip in task.clips)
    record = next(filter(None, records), None)
    if stage.entry.settings and record:
        windows = stage.windows
        settings = stage.entry.settings.format(
            length=windows.length,
            stride=windows.stride,
            half=windows.length // 2,
            features=record.get("features"),
        )
        logger.info(f"settings for {stage.layout}: {settings}")


def _trained_on(path: Path) -> Json | None:
    """Return the record of the flow that a network was trained on, where it has one."""
    try:
        record = read_about(path)["stream"]["sets"][0]["flow"]
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    return record if isinstance(record, dict) else None
