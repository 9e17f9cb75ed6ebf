"""Label a live source with a trained classifier."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import ExitStack, closing
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from flowpipe._options import with_options
from flowpipe.errors import ParameterError
from flowpipe.io.stream import Stream
from flowpipe.prediction import Classifier, load_classifier
from flowpipe.prediction.detection.find import holds_detector
from flowpipe.prediction.detection.load import Detector, load_detector
from flowpipe.prediction.live.overlay import Overlay
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.run import Labels, LivePrediction, live_labels
from flowpipe.prediction.live.window import Window


def predict_live(
    classifier: Classifier | Detector | str | PathLike[str],
    source: str | PathLike[str],
    live: Live | None = None,
    *,
    overlay: str | PathLike[str] | None = None,
    device: str = "auto",
    **options: Any,
) -> Generator[LivePrediction, None, None]:
    """Label the last seconds of a camera, a stream, a pipe, or a file at its own pace.

    Frames that come faster than they are used are dropped. What is scored is made of consecutive
    frames, as in training.

    Parameters
    ----------
    classifier
        The classifier, or what :func:`flowpipe.load_classifier` takes; or a detector, or the folder
        of :func:`flowpipe.train_detector`, which labels the present.
    source
        A camera (``0`` or ``/dev/video0``), a URL that FFmpeg opens (rtsp, http, ...), a named pipe
        or ``-`` (standard input), or a video file.
    live
        Options; by default a label of the last 3 s every second.
    overlay
        An mp4 to write the frames to, with the labels drawn over them.
    device
        Device of a network that is given by its folder.
    **options
        Fields of :class:`~flowpipe.prediction.live.parameters.Live`, in place of `live`.

    Yields
    ------
    LivePrediction
        The label, its time in the source, and how far it is behind.

    Raises
    ------
    StreamError
        The source cannot be opened, gives no frame for ``stall`` seconds, breaks off, or ends
        before there is a label.
    FlowpipeError
        There is no classifier, or an option does not apply to it.

    Examples
    --------
    >>> import flowpipe
    >>> labels = list(flowpipe.predict_live("idt/classifiers/01-split1", "clip.avi", every=0.5))
    >>> round(labels[-1].time, 2), labels[-1].label in labels[-1].classes
    (0.76, True)
    """
    if live is not None and options:
        raise ParameterError(f"live and {', '.join(options)} exclude each other")
    (live,) = with_options(options, live or Live())
    if not isinstance(classifier, Classifier | Detector):
        classifier = load_live(classifier, device)
    elif device != "auto":
        raise ParameterError(f"device is {device!r}; a classifier that is loaded has its own")
    window = window_of(classifier, live)
    stream = Stream(fspath(source), live.stall)
    path = None if overlay is None else Path(overlay)
    if path is not None and path.resolve() == Path(stream.name).resolve():
        raise ParameterError(
            f"overlay is {str(path)!r}, which is the source; name another file, as it is replaced"
        )
    return _labels(classifier, window, stream, live, path)


def load_live(
    folder: str | PathLike[str], device: str = "auto", weights: str | PathLike[str] | None = None
) -> Classifier | Detector:
    """Read what can label a live source: a classifier, or a detector.

    Parameters
    ----------
    folder, device, weights
        As for :func:`flowpipe.load_classifier`; or the folder of a detector.

    Raises
    ------
    FlowpipeError
        There is neither.
    """
    if weights is None and holds_detector(Path(folder)):
        return load_detector(folder, device)
    return load_classifier(folder, device=device, weights=weights)


def window_of(classifier: Classifier | Detector, live: Live) -> Window:
    """Return what extracts and scores the last seconds of a source for a classifier.

    Raises
    ------
    ParameterError
        There is nothing for such a classifier, or an option does not apply to it.
    """
    from flowpipe.prediction.fusion import FusionClassifier
    from flowpipe.prediction.network import NetworkClassifier
    from flowpipe.prediction.trajectories import TrajectoryClassifier

    if isinstance(classifier, Detector):
        from flowpipe.prediction.live.detectors import DetectorWindow

        return DetectorWindow(classifier, live)
    if isinstance(classifier, NetworkClassifier):
        from flowpipe.prediction.live.networks import NetworkWindow

        return NetworkWindow(classifier, live)
    if isinstance(classifier, TrajectoryClassifier):
        from flowpipe.prediction.live.tracks import TrajectoryWindow

        return TrajectoryWindow(classifier, live)
    if isinstance(classifier, FusionClassifier):
        from flowpipe.prediction.live.fusions import FusionWindow

        return FusionWindow(classifier, [window_of(each, live) for each in classifier.members])
    raise ParameterError(
        f"{str(classifier.path)!r} cannot label a live source; a network or a classifier on "
        "trajectories can"
    )


def _labels(
    classifier: Labels, window: Window, stream: Stream, live: Live, overlay: Path | None
) -> Generator[LivePrediction, None, None]:
    with ExitStack() as stack:
        display = None if overlay is None else stack.enter_context(Overlay(overlay, stream))
        labels = live_labels(classifier, window, stream, live, display)
        yield from stack.enter_context(closing(labels))


def json_line(prediction: LivePrediction, top: int) -> str:
    """Return a label of a live source as one line of JSON."""
    best = [
        {"label": label, "score": round(score, 6), "probability": round(probability, 6)}
        for label, score, probability in prediction.top(top)
    ]
    content = {
        "source": prediction.name,
        "time": round(prediction.time, 3),
        "label": prediction.label,
        "calibrated": prediction.calibrated,
        "top": best,
        "delay": round(prediction.delay, 3),
        "frames": prediction.frames,
        "used": prediction.used,
        "dropped": prediction.dropped,
        "fps": round(prediction.fps, 2),
    }
    return json.dumps(content, ensure_ascii=False) + "\n"
