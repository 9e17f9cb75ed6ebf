"""Train heads on the stored maps of networks, split by split, and evaluate them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from flowpipe._options import with_options
from flowpipe.classify.metrics import Metrics, evaluate, mistakes
from flowpipe.classify.protocols import Protocol, final_split
from flowpipe.classify.protocols import protocol as choose_protocol
from flowpipe.classify.scores import FORMAT, Scores, load_scores, save_scores
from flowpipe.classify.splits import FINAL, choose_splits, split_folder
from flowpipe.datasets.base import Dataset, Split
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.errors import ParameterError
from flowpipe.io.npz import key_of
from flowpipe.models.probe_file import load_probe, save_probe
from flowpipe.models.probe_network import ProbeNetwork
from flowpipe.models.probes import PROBE_NAME, Probe, StoredShape
from flowpipe.pipelines.kept import keep_classifiers, record_of
from flowpipe.pipelines.labelled import accuracy_line, without_clips
from flowpipe.pipelines.seen_clips import warn_of_seen_clips
from flowpipe.pipelines.train import training_curves, training_seconds
from flowpipe.pipelines.training_progress import TrainingProgress
from flowpipe.prediction.probe import backbone_name
from flowpipe.report.html import Results, write_report
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.stored_maps import ClipMaps, MapClips, find_maps, map_names, map_records
from flowpipe.training.distributed import Group, alone, pick_device
from flowpipe.training.features.maps import NETWORK, kept_network
from flowpipe.training.loading import DataLoading
from flowpipe.training.probe import score_maps
from flowpipe.training.probe_parameters import ProbeTraining
from flowpipe.training.train import ModelFile, train_network

logger = logging.getLogger(__name__)

HEADS = "heads"
"""Folder of the trainings, one for each split."""
_FILE = ModelFile(PROBE_NAME, load_probe, save_probe)


def probe(
    dataset: Dataset | str | PathLike[str],
    maps: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "probe",
    settings: Probe | None = None,
    training: ProbeTraining | None = None,
    *,
    protocol: Protocol | str | None = None,
    splits: Sequence[str] = (),
    final: bool = False,
    device: str = "auto",
    checkpoint_every: int = 200,
    leave_out_unusable: bool = False,
    **options: Any,
) -> Metrics:
    """Train heads on stored maps of networks, which are not trained, and evaluate them.

    An interrupted run resumes from its last checkpoint; on a CPU it gives the same head bit for
    bit. Settings are fixed before: test clips have no part in the training.

    Parameters
    ----------
    dataset
        The labelled set, or its folder or list. Its videos may be gone: only the maps are read.
    maps
        Folders of :func:`flowpipe.extract_features` with ``maps`` or ``tokens``, of one layer each.
    out
        The output folder: ``scores.npz``, ``metrics.json``, ``report.html``, and ``classifiers``
        with which :func:`flowpipe.predict` labels new videos.
    settings
        The head, and what it sees of a clip.
    training
        How it is trained.
    protocol
        Training and test clips, as :func:`flowpipe.protocol` takes them.
    splits
        Names of the splits; by default all.
    final
        Also train a head on all clips, for new videos.
    device
        Device of the head: ``cpu``, a torch device such as ``cuda:1``, or a GPU if there is one.
    checkpoint_every
        Number of training steps between checkpoints.
    leave_out_unusable
        Leave out clips without maps, which are logged, in place of an error.
    **options
        Fields of `settings` and `training`, in place of their values: ``head="evl"``,
        ``epochs=30``.

    Returns
    -------
    Metrics

    Raises
    ------
    ParameterError
        A folder holds no maps, maps differ in size, or an option is out of range.
    UnusableClipsError
        Clips have no maps, or damaged ones; all are listed.
    StageMismatchError
        The output folder holds heads on other maps, or of other settings.

    Examples
    --------
    >>> import flowpipe
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> nets = flowpipe.train("videos", "flow", "net", "small", splits=["split1"], **options)
    >>> summary = flowpipe.extract_features("flow", "maps", "net", maps="stage4")
    >>> metrics = flowpipe.probe("videos", "maps", head="linear", epochs=5)
    >>> metrics.confusion.shape  # true class by predicted class
    (6, 6)
    """
    alone("probe")
    if checkpoint_every < 1:
        raise ParameterError(f"checkpoint_every is {checkpoint_every}; it must be 1 or more")
    settings, training = with_options(options, settings or Probe(), training or ProbeTraining())
    given = [maps] if isinstance(maps, str | PathLike) else list(maps)
    folders = [Path(folder) for folder in given]
    mapped = _mapped(dataset, folders, protocol, splits, leave_out_unusable=leave_out_unusable)
    out = Path(out)
    provenance.open_stage(out, mapped.description(settings, training))
    record_dataset(mapped.dataset, out)
    atomic.remove_stale(out)
    runtime = _Runtime(pick_device(device), checkpoint_every)
    logger.info(f"{len(mapped.clips)} clips, {settings.head} on {_named(mapped.records)} -> {out}")
    parts, files = [], {}
    for split in [*mapped.chosen(splits), *([final_split(mapped.protocol)] if final else [])]:
        folder = out / HEADS / mapped.folder(split)
        network = _trained(mapped, split, settings, training, folder, runtime)
        files[folder.name] = folder / PROBE_NAME
        if split.name != FINAL:
            parts.append(_scored(mapped, split, network, folder, out, runtime.device))
    scores = Scores(mapped.protocol.classes, tuple(parts))
    save_scores(out / "scores.npz", scores, out)
    metrics = evaluate(scores)
    beside = {backbone_name(i): each / NETWORK for i, each in enumerate(folders)}
    keep_classifiers(files, record_of(scores), out, beside)
    _write_results(mapped, settings, training, scores, metrics, out)
    atomic.remove_stale(out)
    logger.info(accuracy_line(settings.head, metrics))
    return metrics


@dataclass(frozen=True, slots=True)
class _Runtime:
    """Where heads are trained, and how often their state is kept; it changes no result."""

    device: torch.device
    checkpoint_every: int


@dataclass(frozen=True)
class _Mapped:
    """A labelled set, and the maps of its clips."""

    dataset: Dataset
    protocol: Protocol
    clips: Mapping[str, ClipMaps]
    shapes: Sequence[StoredShape]
    records: Sequence[Json]

    def chosen(self, names: Sequence[str]) -> list[Split]:
        of = f"{self.protocol.name} of {self.dataset.name}"
        return choose_splits(self.protocol.splits, names, of)

    def folder(self, split: Split) -> str:
        names = [each.name for each in self.protocol.splits]
        number = names.index(split.name) + 1 if split.name in names else 0
        return split_folder(number, split.name)

    def labelled(self, names: Sequence[str]) -> list[tuple[ClipMaps, int]]:
        labels = self.protocol.indices(names).tolist()
        return [(self.clips[name], label) for name, label in zip(names, labels, strict=True)]

    def keys(self, names: Sequence[str]) -> str:
        """Return a digest of the maps of clips."""
        return provenance.digest([[name, self.clips[name].keys] for name in names])

    def description(self, settings: Probe, training: ProbeTraining) -> Json:
        """Return the record of the stage, without any label."""
        splits = [[each.name, each.train, each.test] for each in self.protocol.splits]
        return {
            "stage": "probe",
            **settings.description(),
            "training": asdict(training),
            "set": self.dataset.name,
            "protocol": {"name": self.protocol.name, "digest": provenance.digest(splits)},
            "classes": list(self.protocol.classes),
            "maps": list(self.records),
        }


def _mapped(
    dataset: Dataset | str | PathLike[str],
    folders: Sequence[Path],
    protocol: Protocol | str | None,
    splits: Sequence[str],
    *,
    leave_out_unusable: bool,
) -> _Mapped:
    records = map_records(folders)
    for folder in folders:
        kept_network(folder)  # is that of the maps
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset, stored=map_names(folders[0]))
    if not isinstance(protocol, Protocol):
        protocol = choose_protocol(dataset, protocol)
    of = f"{protocol.name} of {dataset.name}"
    warn_of_seen_clips(folders, protocol, choose_splits(protocol.splits, splits, of))
    known = {clip.name: clip for clip in (*dataset.clips, *dataset.absent)}
    names = [name for name in known if name in protocol.names]
    found, shapes, missing = find_maps([known[name] for name in names], folders)
    if missing:
        if not leave_out_unusable or not found:
            raise UnusableClipsError(missing, len(names))
        protocol = without_clips(protocol, missing)
    return _Mapped(dataset, protocol, found, shapes, records)


def _trained(
    mapped: _Mapped,
    split: Split,
    settings: Probe,
    training: ProbeTraining,
    folder: Path,
    runtime: _Runtime,
) -> ProbeNetwork:
    """Return the head of a split, trained now or before."""
    labelled = mapped.labelled(split.train)
    about = {
        "split": split.name,
        "classes": list(mapped.protocol.classes),
        "trained_classes": sorted({label for _, label in labelled}),
        "labels": provenance.digest([label for _, label in labelled]),
        "clips": mapped.keys(split.train),
        "maps": list(mapped.records),
        "head": settings.description(),
    }
    path = folder / PROBE_NAME
    if path.exists():
        known = load_probe(path)[1]
        if any(known.get(name) != about[name] for name in ("labels", "clips")):
            logger.info(f"{split.name}: training clips have changed; it is trained again")
            path.unlink()
    what = "trained already" if path.exists() else f"{len(labelled)} clips"
    logger.info(f"{split.name}: {what}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = ProbeNetwork(settings, mapped.shapes, len(mapped.protocol.classes))
    if not path.exists():
        whole = MapClips(labelled, settings.frames, is_random=False)
        network.fit(whole[index][0] for index in range(len(whole)))
    progress = TrainingProgress(split.name)
    clips = MapClips(labelled, settings.frames, is_random=True, seed=training.seed)
    return train_network(
        network,
        clips,
        training.training(),
        folder,
        about,
        _FILE,
        group=Group(0, 1, runtime.device),
        loading=DataLoading(0, runtime.checkpoint_every),
        report=progress.finish_epoch,
        advance=progress.advance,
    )


def _scored(
    mapped: _Mapped,
    split: Split,
    network: ProbeNetwork,
    folder: Path,
    out: Path,
    device: torch.device,
) -> Any:
    """Return the scores of the test clips of a split, computed now or before."""
    path = folder.with_suffix(".npz")
    probe = network.probe
    # The labels of test clips have no part in their scores.
    key = provenance.digest(
        [provenance.sha256(folder / PROBE_NAME), mapped.keys(split.test), probe.test_clips]
    )
    if key_of(path, FORMAT) != key:
        clips = MapClips(
            mapped.labelled(split.test), probe.frames, is_random=False, test_clips=probe.test_clips
        )
        part = mapped.protocol.scored(split.name, split.test, score_maps(network, clips, device))
        save_scores(path, Scores(mapped.protocol.classes, (part,)), out, key)
    (part,) = load_scores(path).splits
    return mapped.protocol.scored(split.name, split.test, part.scores)


def _write_results(
    mapped: _Mapped,
    settings: Probe,
    training: ProbeTraining,
    scores: Scores,
    metrics: Metrics,
    out: Path,
) -> None:
    """Write ``metrics.json`` and the report."""
    described = mapped.description(settings, training)
    seconds = training_seconds(out / HEADS)
    content = {
        **metrics.to_json(),
        "protocol": mapped.protocol.name,
        "seconds": {"training": seconds},
        "stage": described,
    }
    atomic.write_atomic(out / "metrics.json", json_files.to_json(content), out)
    results = Results(
        title=f"{mapped.dataset.name}: {settings.head} on {_named(mapped.records)}",
        metrics=metrics,
        protocol=mapped.protocol.name,
        wrong=mistakes(scores),
        notes=mapped.protocol.notes,
        parameters={"head": settings.description(), "training": asdict(training)},
        timings={"training": seconds},
        training={settings.head: training_curves(out / HEADS)},
    )
    write_report(out / "report.html", results, out)


def _named(records: Sequence[Json]) -> str:
    """Return what the maps are of."""
    return " and ".join(
        f"{each.get('maps') or str(each['tokens']) + ' blocks'} of "
        f"{each['network'].get('backbone', each['network']['model'])} "
        f"({each['network']['clip']['modality']})"
        for each in records
    )
