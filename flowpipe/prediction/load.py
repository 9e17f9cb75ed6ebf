"""Find and read the classifier in a folder, of either kind."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from flowpipe.errors import FormatError, ParameterError
from flowpipe.prediction.base import Classifier, the_one
from flowpipe.training.testing import Testing

_TRAJECTORIES, _NETWORK = "classifier.safetensors", "model.safetensors"


def load_classifier(
    folder: str | PathLike[str], testing: Testing | None = None, device: str = "auto"
) -> Classifier:
    """Read a trained classifier.

    Parameters
    ----------
    folder
        A folder of ``idt-baseline`` or ``train``, the folder of one of its splits, or the file
        ``classifier.safetensors`` or ``model.safetensors`` itself. Where a folder holds the
        classifiers of several splits, the one that was fitted to all clips (``--final``) is taken.
    testing
        Views of a clip, for networks; by default those of ``evaluate``.
    device
        Device of a network: ``cpu``, a torch device such as ``cuda:1``, or a GPU if there is one.

    Returns
    -------
    Classifier
        Its ``predict`` labels a video, extracted exactly as in training.

    Raises
    ------
    ParameterError
        There is no classifier, or there are several to choose from.
    FormatError
        The file is damaged, of another version, or its parts do not fit together.

    Examples
    --------
    >>> import flowpipe
    >>> classifier = flowpipe.load_classifier("idt/classifiers/01-split1")
    >>> classifier.classes
    ('horizontal', 'orbit', 'spin', 'stretch', 'vertical', 'zoom')
    """
    path = _find(Path(folder))
    if path.name == _NETWORK:
        from flowpipe.prediction.network import NetworkClassifier

        return NetworkClassifier.load(path, testing, device)
    if testing is not None:
        raise ParameterError(f"{str(path)!r} is no network; test_segments and crops are for those")
    from flowpipe.prediction.trajectories import TrajectoryClassifier

    return TrajectoryClassifier.load(path)


def _find(path: Path) -> Path:
    if path.is_file():
        if path.name not in (_TRAJECTORIES, _NETWORK):
            raise FormatError(
                f"{str(path)!r} is no classifier; a file {_TRAJECTORIES} or {_NETWORK} is expected"
            )
        return path
    if not path.is_dir():
        raise ParameterError(f"{str(path)!r} does not exist; a trained classifier is expected")
    for folder in (path, path / "classifiers"):
        for name in (_TRAJECTORIES, _NETWORK):
            for place in (folder, folder / "final"):
                if (place / name).is_file():
                    return place / name
            if below := sorted(folder.glob(f"*/{name}")):
                return the_one(below, path, "classifier")
    raise ParameterError(
        f"{str(path)!r} holds no classifier ({_TRAJECTORIES} of idt-baseline, or {_NETWORK} of "
        "train)"
    )
