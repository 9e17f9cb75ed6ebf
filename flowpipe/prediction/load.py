"""Find and read the classifier in a folder, of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from flowpipe.classify.splits import CLASSIFIERS, FINAL
from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.probes import PROBE_NAME
from flowpipe.models.published import split_name
from flowpipe.prediction.base import Classifier, the_one
from flowpipe.prediction.fusion import FILE as FUSION
from flowpipe.prediction.fusion import FusionClassifier, read_fusion
from flowpipe.prediction.record import read_record
from flowpipe.training.optimisation import Precision
from flowpipe.training.testing import Crops, Testing

_TRAJECTORIES, _NETWORK = "classifier.safetensors", "model.safetensors"
_FILES = (FUSION, _TRAJECTORIES, _NETWORK, PROBE_NAME)
_DEEPEST = 4
"""Fusions of fusions; a folder of a stranger may contain itself."""


def load_classifier(
    folder: str | PathLike[str],
    testing: Testing | None = None,
    device: str = "auto",
    weights: str | PathLike[str] | None = None,
) -> Classifier:
    """Read a trained classifier, or a network with published weights.

    Parameters
    ----------
    folder
        An output folder of ``idt-baseline``, ``two-stream``, ``evaluate``, ``probe``, ``fuse`` or
        ``train``, the folder of one of its splits, or the file ``classifier.safetensors``,
        ``model.safetensors``, ``probe.safetensors`` or ``fusion.json`` itself. Where a folder
        holds the classifiers of several splits, the one that was fitted to all clips (``--final``)
        is taken.
        With `weights`, the name of a network and of the data set whose classes it knows, such as
        ``i3d-kinetics400``.
    testing
        Views of a clip, for networks; by default those of their evaluation.
    device
        Device of a network: ``cpu``, a torch device such as ``cuda:1``, or a GPU if there is one.
    weights
        Published weights of a network: a file, or a name of torchvision's, such as
        ``KINETICS400_V1``.

    Returns
    -------
    Classifier
        Its ``predict`` labels a video, extracted exactly as in training.

    Raises
    ------
    ParameterError
        There is no classifier, there are several to choose from, or views or a device are given
        and it has no network.
    FormatError
        The file is damaged, of another version, or its parts do not fit together.

    Examples
    --------
    >>> import flowpipe
    >>> classifier = flowpipe.load_classifier("idt/classifiers/01-split1")
    >>> classifier.classes
    ('horizontal', 'orbit', 'spin', 'stretch', 'vertical', 'zoom')
    >>> network = flowpipe.load_classifier("i3d-kinetics400", weights="i3d_rgb.safetensors")
    >>> network.classes[:2]
    ('abseiling', 'air drumming')
    """
    name = str(folder)
    if weights is not None or (split_name(name) and not Path(folder).exists()):
        if Path(folder).exists():
            raise ParameterError(
                f"weights is {str(weights)!r}; it applies to a name such as i3d-kinetics400, and "
                f"{name!r} has weights of its own"
            )
        from flowpipe.prediction.published import load_published

        return load_published(name, None if weights is None else str(weights), testing, device)
    found = _load(find_classifier(Path(folder)), testing, device, _DEEPEST)
    if testing is not None and not _has_network(found):
        raise _no_views(found)
    if device != "auto" and not _has_device(found):
        raise ParameterError(f"{str(found.path)!r} is no network; device {device!r} is for those")
    return found


def with_views(
    classifier: Classifier,
    test_clips: int | Literal["all"] | None,
    crops: Crops | None,
    amp: Precision | None = None,
) -> Classifier:
    """Return a classifier whose networks see other views of a clip, or compute in other numbers.

    Parameters
    ----------
    classifier
        A network, or a fusion that has one.
    test_clips, crops, amp
        Fields of :class:`~flowpipe.training.testing.Testing`; those that are None stay as they
        were in the evaluation.

    Raises
    ------
    ParameterError
        It has no network, or a value is out of range.
    """
    given = {"test_clips": test_clips, "crops": crops, "amp": amp}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return classifier
    if not _has_network(classifier):
        raise _no_views(classifier)
    return _with_views(classifier, given)


def _with_views(classifier: Classifier, given: Mapping[str, Any]) -> Classifier:
    from flowpipe.prediction.network import NetworkClassifier

    if isinstance(classifier, FusionClassifier):
        members = tuple(_with_views(each, given) for each in classifier.members)
        return replace(classifier, members=members)
    if isinstance(classifier, NetworkClassifier):
        testing = replace(classifier.record.testing, **given)
        return replace(classifier, record=replace(classifier.record, testing=testing))
    return classifier


def _no_views(classifier: Classifier) -> ParameterError:
    return ParameterError(
        f"{str(classifier.path)!r} is no network; test_clips, crops and amp are for those"
    )


def _load(path: Path, testing: Testing | None, device: str, depth: int) -> Classifier:
    if path.name == FUSION:
        if not depth:
            raise FormatError(f"{str(path)!r} is in a fusion of fusions of fusions, and so on")
        members, softmax = read_fusion(path)
        paths = [find_classifier(each.folder) for each in members]
        loaded = [_load(each, testing, device, depth - 1) for each in paths]
        weights = tuple(each.weight for each in members)
        classes, record = loaded[0].classes, read_record(path.parent)
        return FusionClassifier(path, classes, tuple(loaded), weights, softmax, record)
    if path.name == _NETWORK:
        from flowpipe.prediction.network import NetworkClassifier

        return NetworkClassifier.load(path, testing, device)
    if path.name == PROBE_NAME:
        from flowpipe.prediction.probe import ProbeClassifier

        return ProbeClassifier.load(path, device)
    from flowpipe.prediction.trajectories import TrajectoryClassifier

    return TrajectoryClassifier.load(path)


def _has_network(classifier: Classifier) -> bool:
    if isinstance(classifier, FusionClassifier):
        return any(map(_has_network, classifier.members))
    return classifier.is_network


def _has_device(classifier: Classifier) -> bool:
    if isinstance(classifier, FusionClassifier):
        return any(map(_has_device, classifier.members))
    return classifier.has_device


def find_classifier(path: Path) -> Path:
    """Return the file of the classifier in a folder.

    Raises
    ------
    ParameterError
        There is none, or there are several to choose from.
    """
    names = f"{_TRAJECTORIES}, {_NETWORK}, {PROBE_NAME} or {FUSION}"
    if path.is_file():
        if path.name not in _FILES:
            raise FormatError(f"{str(path)!r} is no classifier; a file {names} is expected")
        return path
    if not path.is_dir():
        raise ParameterError(
            f"{str(path)!r} does not exist; a trained classifier is expected, or with weights the "
            "name of a published network such as i3d-kinetics400"
        )
    for folder in (path, path / CLASSIFIERS):
        for place in (folder, folder / FINAL):
            for name in _FILES:
                if (place / name).is_file():
                    return place / name
        if below := sorted(each for name in _FILES for each in folder.glob(f"*/{name}")):
            return the_one(below, path, "classifier")
    raise ParameterError(f"{str(path)!r} holds no classifier ({names})")
