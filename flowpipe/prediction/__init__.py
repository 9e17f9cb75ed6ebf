"""Label new videos with what was trained: load a classifier, extract as in training, score."""

from flowpipe.prediction.base import Classifier, Prediction
from flowpipe.prediction.load import load_classifier

__all__ = ["Classifier", "Prediction", "load_classifier"]
