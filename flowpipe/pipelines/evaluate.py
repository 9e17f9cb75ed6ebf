"""Score the test clips of a labelled set with trained networks, split by split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from flowpipe.classify import metrics as measures
from flowpipe.classify.metrics import Metrics
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import FORMAT, Scores, SplitScores, load_scores, save_scores
from flowpipe.classify.splits import FINAL
from flowpipe.datasets.base import Dataset, Split
from flowpipe.datasets.load import record_dataset
from flowpipe.errors import FlowpipeError
from flowpipe.io.npz import key_of
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import load_model
from flowpipe.pipelines.kept import keep_classifiers, record_of
from flowpipe.pipelines.labelled import (
    LabelledFlow,
    accuracy_line,
    labelled_flow,
    with_usable_clips,
)
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.datasets import SnippetsInTurn, test_view_clips, testing_transform
from flowpipe.training.distributed import alone, pick_device
from flowpipe.training.evaluate import RawClips, score_clips
from flowpipe.training.optimisation import Precision
from flowpipe.training.precision import trained_with
from flowpipe.training.runtime import Runtime
from flowpipe.training.testing import Testing, TestViews
from flowpipe.training.train import MODEL_NAME

logger = logging.getLogger(__name__)


def evaluate(
    models: str | PathLike[str],
    dataset: Dataset | str | PathLike[str],
    flow: str | PathLike[str],
    out: str | PathLike[str] = "scores",
    testing: Testing | None = None,
    *,
    protocol: Protocol | str | None = None,
    splits: Sequence[str] = (),
    task: int = 1,
    runtime: Runtime | None = None,
    leave_out_unusable: bool = False,
) -> Metrics:
    """Score the test clips of every split with its network.

    Parameters
    ----------
    models
        Output folder of :func:`flowpipe.train`.
    dataset, flow, protocol
        As for :func:`flowpipe.train`.
    out
        The output folder, for ``scores.npz``, ``metrics.json`` and ``classifiers``, the networks
        with calibrated probabilities. A later call with more splits adds them.
    testing
        Views of a test clip; by default as the authors of the network test it.
    splits
        Names of the splits to test; by default all.
    task
        Which of the sets that the networks were trained on this one is, from 1.
    runtime
        Device and data loading.
    leave_out_unusable
        Leave out clips that are missing, too short or damaged, which are logged, in place of an
        error.

    Returns
    -------
    Metrics

    Raises
    ------
    FormatError
        A network is missing, or damaged.
    FlowpipeError
        A network was trained on other classes, or on flow with another bound or step.
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.

    Examples
    --------
    >>> import flowpipe
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> models = flowpipe.train("videos", "flow", "net", "small", splits=["split1"], **options)
    >>> metrics = flowpipe.evaluate("net", "videos", "flow", "net-scores", splits=["split1"])
    >>> metrics.confusion.shape  # true class by predicted class
    (6, 6)
    """
    labelled = labelled_flow(dataset, flow, protocol)
    scores = score_networks(
        Path(models),
        labelled,
        testing or Testing(),
        Path(out),
        number=task - 1,
        splits=splits,
        runtime=runtime,
        leave_out_unusable=leave_out_unusable,
    )
    return measures.evaluate(scores)


def score_networks(
    models: Path,
    tested: LabelledFlow,
    testing: Testing,
    out: Path,
    *,
    number: int = 0,
    splits: Sequence[str] = (),
    runtime: Runtime | None = None,
    leave_out_unusable: bool = False,
) -> Scores:
    """Score the test clips of every split with its network; write ``scores.npz``.

    Parameters
    ----------
    models, tested, testing, out, splits, runtime, leave_out_unusable
        As for :func:`evaluate`.
    number
        Which of the sets that the networks were trained on this one is, from 0.

    Returns
    -------
    Scores
        As they were written.

    Raises
    ------
    FormatError, FlowpipeError, UnusableClipsError
        As for :func:`evaluate`.
    """
    alone("evaluate")
    runtime = runtime or Runtime()
    chosen = tested.chosen(splits)
    folders = {split.name: tested.folder(split, models) for split in chosen}
    device = pick_device(runtime.device)
    loaded, precision, views = {}, {}, {}
    for name, folder in folders.items():
        loaded[name], about = _model(folder, tested, number)
        views[name] = testing.of(loaded[name])
        precision[name] = views[name].amp or trained_with(about, device)
    for split in chosen:
        tested = with_usable_clips(
            tested,
            [split.name],
            loaded[split.name].clip,
            train=False,
            test=True,
            leave_out=leave_out_unusable,
        )
    chosen = [tested.split(split.name) for split in chosen]
    description = description_of(models, tested, testing, number)
    provenance.open_stage(out, description)
    record_dataset(tested.dataset, out)
    atomic.remove_stale(out)
    parts: list[SplitScores] = []
    for split in chosen:
        path = tested.folder(split, out).with_suffix(".npz")
        # The labels of test clips have no part in their scores.
        key = provenance.digest(
            [
                provenance.sha256(folders[split.name] / MODEL_NAME),
                list(split.test),
                asdict(views[split.name]),
            ]
        )
        if key_of(path, FORMAT) != key:
            table = _score(
                loaded[split.name],
                tested,
                split,
                views[split.name],
                number,
                device=device,
                amp=precision[split.name],
                workers=runtime.workers,
            )
            part = tested.protocol.scored(split.name, split.test, table)
            save_scores(path, Scores(tested.protocol.classes, (part,)), out, key)
        (part,) = load_scores(path).splits
        parts.append(tested.protocol.scored(split.name, split.test, part.scores))
    scores = Scores(tested.protocol.classes, tuple(parts))
    save_scores(out / "scores.npz", scores, out)
    metrics = measures.evaluate(scores)
    atomic.write_atomic(out / "metrics.json", json_files.to_json(metrics.to_json()), out)
    files = {folder.name: folder / MODEL_NAME for folder in folders.values()}
    if (final := models / FINAL / MODEL_NAME).is_file():
        files[FINAL] = final
    seen = Testing(**asdict(views[chosen[0].name]))  # as it was, should the authors' views change
    keep_classifiers(files, record_of(scores, seen, number + 1), out)
    atomic.remove_stale(out)
    logger.info(accuracy_line(loaded[chosen[0].name].clip.modality, metrics))
    return scores


def description_of(models: Path, tested: LabelledFlow, testing: Testing, number: int = 0) -> Json:
    """Return the record of scores, which holds that of the networks."""
    return {
        **testing.description(),
        "task": number + 1,
        "tested": tested.description(),
        "models": provenance.read_stage(models),
    }


def _model(folder: Path, tested: LabelledFlow, number: int) -> tuple[StreamNetwork, Json]:
    """Return the network of a split, and what it was trained on, which fits the set tested."""
    path = folder / MODEL_NAME
    network, about = load_model(path)
    try:
        classes = list(about["classes"][number])
        trained = about["stream"]["sets"][number].get("flow")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise FlowpipeError(
            f"{str(path)!r} does not say what it was trained on: {error!r}"
        ) from None
    if classes != list(tested.protocol.classes):
        raise FlowpipeError(
            f"{str(path)!r} was trained on other classes than those of {tested.dataset.name!r}"
        )
    if network.clip.has_flow:
        check_flow(path, trained, tested.flow)
    return network, about


def check_flow(model: Path, trained: Json | None, folder: Path) -> None:
    """Compare the flow that a network was trained on with the flow that it is tested on.

    Flow without a record is not compared.

    Raises
    ------
    FlowpipeError
        They differ in bound or step, which scale what the network sees. Other differences are
        logged.
    """
    check_same_flow(model, trained, provenance.read_stage(folder), folder)


def check_same_flow(model: Path, trained: Json | None, tested: Json | None, folder: Path) -> None:
    """Compare the records of two flows; see :func:`check_flow`."""
    if trained is None or tested is None:
        return
    for name in ("bound", "step", "size", "method", "stage"):
        values = [_flow_setting(each, name) for each in (trained, tested)]
        if values[0] == values[1] or (name == "bound" and None in values):
            continue
        sentence = (
            f"{str(model)!r} was trained on flow with {name} {values[0]}, "
            f"and the flow in {str(folder)!r} has {name} {values[1]}"
        )
        if name in ("bound", "step"):
            raise FlowpipeError(f"{sentence}; extract it with the same {name}")
        logger.warning(sentence)


def _flow_setting(description: Json, name: str) -> object:
    """Return a setting of flow; warped flow has those of the flow that it was made from."""
    upstream = description.get("flow")
    if description.get(name) is None and isinstance(upstream, dict):
        return _flow_setting(upstream, name)
    return description.get(name)


def _score(
    network: StreamNetwork,
    tested: LabelledFlow,
    split: Split,
    views: TestViews,
    number: int,
    *,
    device: torch.device,
    amp: Precision,
    workers: int,
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    whole = test_view_clips(tested.flow, tested.clips(split.test), network, views)
    in_turn = views.test_clips == "all"  # of a long clip, these do not fit into memory at once
    clips: RawClips = SnippetsInTurn(whole, network) if in_turn else whole
    table = score_clips(
        network,
        clips,
        testing_transform(network.clip, network.network, views),
        average=views.average,
        device=device,
        amp=amp,
        workers=0 if in_turn else workers,
    )
    first = sum(network.classes[:number])
    own: np.ndarray[tuple[int, int], np.dtype[np.float32]] = table[
        :, first : first + network.classes[number]
    ]
    return own
