"""Networks with published weights as classifiers of videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpipe.flow.extract import FlowStage
from flowpipe.models.published import published_network
from flowpipe.prediction.network import NetworkClassifier
from flowpipe.prediction.record import Record
from flowpipe.training.testing import Testing


def load_published(
    name: str, weights: str | None, testing: Testing | None = None, device: str = "auto"
) -> NetworkClassifier:
    """Return a network with published weights as a classifier.

    Frames are scaled as its authors scale them for tests, and views are theirs. A network that sees
    flow is given TV-L1 flow, as I3D's was trained on.

    Parameters
    ----------
    name, weights
        As for :func:`~flowpipe.models.published.published_network`.
    testing, device
        As for :func:`flowpipe.load_classifier`.

    Raises
    ------
    FlowpipeError
        As for :func:`~flowpipe.models.published.published_network`.
    """
    network, classes = published_network(name, weights)
    record = Record(testing=testing or Testing())
    stage = FlowStage(size=record.testing.of(network).short_side)
    return NetworkClassifier(
        path=Path(str(weights)),
        classes=classes,
        network=network,
        flow=stage.description(),
        present=np.arange(len(classes)),
        record=record,
        device=device,
    )
