"""Optical flow, dense trajectories and two-stream baselines for action recognition.

The names below are the public interface. Each is loaded when it is first used, so that
``import flowpipe`` itself is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flowpipe.classify.metrics import Metrics
    from flowpipe.classify.protocols import protocol
    from flowpipe.datasets.intervals.load import load_intervals
    from flowpipe.datasets.load import load_dataset
    from flowpipe.datasets.streams import write_streams
    from flowpipe.datasets.synthetic import write_synthetic
    from flowpipe.datasets.untrimmed import write_untrimmed
    from flowpipe.encoding.bag_of_words import BagOfWords
    from flowpipe.encoding.fisher import FisherVector
    from flowpipe.errors import FlowpipeError
    from flowpipe.flow.estimate import optical_flow
    from flowpipe.flow.extract import FlowStage
    from flowpipe.flow.store.reader import read_flow
    from flowpipe.io.video import read_video
    from flowpipe.models.create import create_model, list_models
    from flowpipe.models.describe import describe_model
    from flowpipe.pipelines.compare.run import compare
    from flowpipe.pipelines.detect import detect
    from flowpipe.pipelines.evaluate import evaluate
    from flowpipe.pipelines.evaluate_detector import evaluate_detector
    from flowpipe.pipelines.features import extract_features
    from flowpipe.pipelines.flow import extract_flow
    from flowpipe.pipelines.fuse import fuse
    from flowpipe.pipelines.idt_baseline import idt_baseline
    from flowpipe.pipelines.live import predict_live
    from flowpipe.pipelines.predict import predict
    from flowpipe.pipelines.pretrain import pretrain
    from flowpipe.pipelines.probe import probe
    from flowpipe.pipelines.tdd_baseline import tdd_baseline
    from flowpipe.pipelines.train import train
    from flowpipe.pipelines.train_detector import train_detector
    from flowpipe.pipelines.trajectories import extract_trajectories
    from flowpipe.pipelines.two_stream import two_stream
    from flowpipe.prediction.load import load_classifier
    from flowpipe.runner.pool import Workers
    from flowpipe.training.data.clips import FlowClips
    from flowpipe.training.data.frame_clips import FrameClips
    from flowpipe.training.data.transforms import test_transform, train_transform
    from flowpipe.trajectories.dense import dense_trajectories

__all__ = [
    "BagOfWords",
    "FisherVector",
    "FlowClips",
    "FlowStage",
    "FlowpipeError",
    "FrameClips",
    "Metrics",
    "Workers",
    "compare",
    "create_model",
    "dense_trajectories",
    "describe_model",
    "detect",
    "evaluate",
    "evaluate_detector",
    "extract_features",
    "extract_flow",
    "extract_trajectories",
    "fuse",
    "idt_baseline",
    "list_models",
    "load_classifier",
    "load_dataset",
    "load_intervals",
    "optical_flow",
    "predict",
    "predict_live",
    "pretrain",
    "probe",
    "protocol",
    "read_flow",
    "read_video",
    "tdd_baseline",
    "test_transform",
    "train",
    "train_detector",
    "train_transform",
    "two_stream",
    "write_streams",
    "write_synthetic",
    "write_untrimmed",
]

# name -> module, and the name there where it differs
_HOMES = {
    "BagOfWords": "encoding.bag_of_words",
    "FisherVector": "encoding.fisher",
    "FlowClips": "training.data.clips",
    "FlowStage": "flow.extract",
    "FlowpipeError": "errors",
    "FrameClips": "training.data.frame_clips",
    "Metrics": "classify.metrics",
    "Workers": "runner.pool",
    "compare": "pipelines.compare.run",
    "create_model": "models.create",
    "dense_trajectories": "trajectories.dense",
    "describe_model": "models.describe",
    "detect": "pipelines.detect",
    "evaluate": "pipelines.evaluate",
    "evaluate_detector": "pipelines.evaluate_detector",
    "extract_features": "pipelines.features",
    "extract_flow": "pipelines.flow",
    "extract_trajectories": "pipelines.trajectories",
    "fuse": "pipelines.fuse",
    "idt_baseline": "pipelines.idt_baseline",
    "tdd_baseline": "pipelines.tdd_baseline",
    "list_models": "models.create",
    "load_classifier": "prediction.load",
    "load_dataset": "datasets.load",
    "load_intervals": "datasets.intervals.load",
    "optical_flow": "flow.estimate",
    "predict": "pipelines.predict",
    "predict_live": "pipelines.live",
    "pretrain": "pipelines.pretrain",
    "probe": "pipelines.probe",
    "protocol": "classify.protocols",
    "read_flow": "flow.store.reader",
    "read_video": "io.video",
    "test_transform": "training.data.transforms",
    "train": "pipelines.train",
    "train_detector": "pipelines.train_detector",
    "train_transform": "training.data.transforms",
    "two_stream": "pipelines.two_stream",
    "write_streams": "datasets.streams",
    "write_synthetic": "datasets.synthetic",
    "write_untrimmed": "datasets.untrimmed",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _HOMES[name].partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
