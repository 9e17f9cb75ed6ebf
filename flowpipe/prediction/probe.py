"""A head on maps of networks as a classifier of new videos.

Frames or flow are extracted as those of the maps were; of these, the networks compute the maps that
the head sees, one by one, as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.probe_file import load_probe
from flowpipe.models.probe_network import ProbeNetwork
from flowpipe.models.probes import StoredShape
from flowpipe.models.weights import load_model
from flowpipe.prediction.base import Classifier
from flowpipe.prediction.fusion import ExtractAll, FusionClassifier
from flowpipe.prediction.network import NetworkClassifier
from flowpipe.prediction.record import Record, read_record
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Work
from flowpipe.runner.provenance import short_hash
from flowpipe.training.data.clip_index import stored_by_name
from flowpipe.training.data.sampling import centre_starts
from flowpipe.training.distributed import pick_device
from flowpipe.training.features.frames import open_clip
from flowpipe.training.features.maps import clip_maps, map_count
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.probe import score_views


def backbone_name(number: int) -> str:
    """Return the name of the file of a network beside the head, which has a number from 0."""
    return f"backbone-{number + 1}.safetensors"


@dataclass(frozen=True, eq=False)
class ProbeClassifier(Classifier):
    """A head, the networks of its maps, and the record of what these see.

    Attributes
    ----------
    path, classes, record
        As for :class:`~flowpipe.prediction.Classifier`.
    network
        The head.
    backbones
        The networks, and how frames or flow are extracted for them.
    stages
        Which maps are computed of them.
    present
        (P,) classes with training clips.
    device
        Where the networks compute.
    """

    path: Path
    classes: tuple[str, ...]
    network: ProbeNetwork
    backbones: tuple[NetworkClassifier, ...]
    stages: tuple[FeatureStage, ...]
    present: NDArray[np.int64]
    record: Record
    device: str
    has_device: ClassVar[bool] = True

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips."""
        return np.isin(np.arange(len(self.classes)), self.present)

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> ProbeClassifier:
        """Read a head of ``probe``, and the networks beside it.

        Raises
        ------
        FormatError
            A file is damaged or missing, or the maps were made of flow or frames that flowpipe did
            not extract, so that those of a new video cannot be made.
        """
        network, about = load_probe(path)
        try:
            classes = tuple(str(each) for each in about["classes"])
            present = np.array(about["trained_classes"], np.int64)
            records = [dict(each) for each in about["maps"]]
            stages = tuple(_stage(each) for each in records)
        except (KeyError, TypeError, ValueError, OverflowError, ParameterError) as error:
            raise FormatError(
                f"{str(path)!r} does not say what it was trained on: {error!r}"
            ) from None
        if len(classes) != network.classes[0] or len(records) != len(network.shapes):
            raise FormatError(
                f"{str(path)!r} has {network.classes[0]} scores and {len(classes)} classes, and "
                f"{len(network.shapes)} inputs of {len(records)} folders of maps"
            )
        if (
            present.ndim != 1
            or not present.size
            or not 0 <= present.min() <= present.max() < len(classes)
        ):
            raise FormatError(
                f"{str(path)!r} was trained on the classes {present.tolist()}; they must be some "
                f"of 0 to {len(classes) - 1}"
            )
        backbones = tuple(
            _backbone(path.parent / backbone_name(number), record, device)
            for number, record in enumerate(records)
        )
        record = read_record(path.parent)
        return cls(path, classes, network.eval(), backbones, stages, present, record, device)

    def description(self) -> Json:
        """Return the records of what is extracted for the networks."""
        found = {short_hash(each.description()): each.description() for each in self.backbones}
        return {"stage": "maps", "extracted": found}

    def extraction(self, out: Path) -> Work[Clip]:
        """Return the work that extracts what each network sees, into a folder for each."""
        folders = {self._folder(each, out): each for each in self.backbones}
        return ExtractAll(tuple(each.extraction(folder) for folder, each in folders.items()))

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the extractions have temporary files."""
        found = [each.folders(self._folder(each, out)) for each in self.backbones]
        return list(dict.fromkeys(path for paths in found for path in paths))

    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return what has been extracted for each network."""
        found = [each.outputs(clip, self._folder(each, out)) for each in self.backbones]
        return list(dict.fromkeys(path for paths in found for path in paths))

    def scores(self, clip: Clip, extracted: Path) -> NDArray[np.float32]:
        """Return the scores of a clip before the softmax, averaged over the views of its test.

        Raises
        ------
        FormatError
            What was extracted is damaged, or the maps have another size than those of training.
        """
        device, probe = pick_device(self.device), self.network.probe
        opened = []
        try:
            for each in self.backbones:
                opened.append(self._open(each, clip, self._folder(each, extracted)))
            inputs = list(zip(self.backbones, opened, self.stages, strict=True))
            count = min(
                map_count(each.network, stage, len(frames)) for each, frames, stage in inputs
            )
            numbers = centre_starts(count, probe.frames, 1, probe.test_clips)
            wanted = np.unique(numbers)
            places = np.searchsorted(wanted, numbers)
            parts = []
            for shape, (each, frames, stage) in zip(self.network.shapes, inputs, strict=True):
                needed = frozenset(wanted.tolist())
                found = [
                    # As they are stored.
                    maps.astype(np.float16)
                    for maps in clip_maps(each.network, frames, stage, wanted=needed, device=device)
                ]
                own = np.concatenate(found)
                _check_size(clip, own, shape)
                parts.append(own[places].reshape(len(places), -1))
        finally:
            for frames in opened:
                frames.close()
        maps = torch.from_numpy(np.concatenate(parts, axis=1))
        return score_views(self.network, maps, device)

    @staticmethod
    def _open(network: NetworkClassifier, clip: Clip, folder: Path) -> Any:
        seen = network.network.clip
        found, missing = stored_by_name(folder, [clip.name], frames_only=not seen.has_flow)
        if missing:
            raise FormatError(f"{str(clip.path)!r}: {missing[clip.name]}")
        return open_clip(found[clip.name], seen)

    @staticmethod
    def _folder(network: NetworkClassifier, out: Path) -> Path:
        return FusionClassifier.folder(network, out)


def _check_size(clip: Clip, maps: NDArray[np.float16], shape: StoredShape) -> None:
    if maps.shape[1:] != shape.shape:
        raise FormatError(
            f"{str(clip.path)!r} has maps of {' x '.join(map(str, maps.shape[1:]))}, and the head "
            f"takes {' x '.join(map(str, shape.shape))}: its frames have another shape than those "
            "of training"
        )
    if not np.isfinite(maps).all():
        raise FormatError(f"{str(clip.path)!r} has maps that are not finite")


def _stage(record: Json) -> FeatureStage:
    """Return which maps a record is of."""
    names = ("maps", "tokens", "short_side", "length", "stride")
    given: dict[str, Any] = {name: record.get(name) for name in names}
    stage = FeatureStage(**given)
    if not stage.stores_maps:
        raise ValueError("a record is not of maps")
    return stage


def _backbone(path: Path, record: Json, device: str) -> NetworkClassifier:
    network, described = load_model(path)
    if described != record.get("network"):
        raise FormatError(f"{str(path)!r} is not the network of the maps that the head saw")
    source = record.get("source")
    if not isinstance(source, dict):
        raise FormatError(
            f"{str(path)!r} saw flow or frames that have no record by flowpipe, so that those of a "
            "new video cannot be made in the same way"
        )
    found = NetworkClassifier(
        path, (), network.eval(), source, np.empty(0, np.int64), Record(), device
    )
    found.extraction(path.parent)  # the record is complete
    return found
