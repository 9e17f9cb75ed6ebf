"""Pretrain the network of a stream on clips without labels, as a masked autoencoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.splits import FINAL
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import AUTO, record_dataset
from flowpipe.errors import ParameterError
from flowpipe.models.cost import check_input
from flowpipe.models.mae import Mae, check_pretrains
from flowpipe.models.masked_autoencoder import MaskedAutoencoder
from flowpipe.models.weight_names import identity
from flowpipe.models.weights import initialise
from flowpipe.pipelines.labelled import (
    UNLABELLED,
    LabelledFlow,
    labelled_flow,
    unlabelled_flow,
    with_usable_clips,
)
from flowpipe.pipelines.seen_clips import started_stream
from flowpipe.pipelines.train import described
from flowpipe.pipelines.training_progress import TrainingProgress
from flowpipe.runner import atomic, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.datasets import stream_clips, training_transform
from flowpipe.training.distributed import pick_device, process_group
from flowpipe.training.loading import DataLoading
from flowpipe.training.optimizers import prepare
from flowpipe.training.parameters import Preset, Stream, preset, pretraining
from flowpipe.training.precision import autocast
from flowpipe.training.runtime import TrainingRuntime
from flowpipe.training.train import AUTOENCODER, train_network

logger = logging.getLogger(__name__)


def pretrain(
    dataset: Dataset | str | PathLike[str],
    flow: str | PathLike[str],
    out: str | PathLike[str] = "pretrained",
    stream: Stream | Preset = "tsn",
    mae: Mae | None = None,
    *,
    protocol: Protocol | str | None = None,
    kind: str = AUTO,
    lists: Sequence[str | PathLike[str]] = (),
    splits: Sequence[str] = (),
    final: bool = False,
    runtime: TrainingRuntime | None = None,
    leave_out_unusable: bool = False,
    **options: Any,
) -> list[Path]:
    """Pretrain a video transformer on clips without labels, as a masked autoencoder.

    Most places of a clip are hidden at all times; the network encodes the others, and a small
    decoder predicts the hidden ones. :func:`flowpipe.train` begins with the encoder:
    ``weights="pretrained"``. By default there is an encoder for each split, which has seen its
    training clips alone. An interrupted run resumes from its last checkpoint.

    Parameters
    ----------
    dataset
        The set, or its folder or list. No label is used.
    flow
        Flow or frames of the clips, as for :func:`flowpipe.train`.
    out
        The output folder: for each split a folder with ``model.safetensors``, ``log.csv`` and
        ``curves.png``.
    stream
        What is pretrained: the network and what it sees. By default, or with the name of a
        preset, it is trained as VideoMAE on Kinetics.
    mae
        The mask and the decoder; by default ``Mae()``.
    protocol
        Which clips train, as for :func:`flowpipe.train`; or ``none``: all clips of the folder
        `dataset`, which need no labels, into the folder ``final``. Test clips of a later evaluation
        are then among them.
    kind, lists
        As for :func:`flowpipe.load_dataset`.
    splits, final, runtime, leave_out_unusable
        As for :func:`flowpipe.train`.
    **options
        Changes of single parameters of `stream` and `mae`, such as ``model="vivit-1"``,
        ``epochs=100`` or ``mask_ratio=0.75``.

    Returns
    -------
    list of Path
        The files of the encoders and their decoders, in the order of the splits.

    Raises
    ------
    ParameterError
        The network is no transformer whose tokens can be hidden, or an option does not apply.
    StageMismatchError, UnusableClipsError
        As for :func:`flowpipe.train`.

    Notes
    -----
    Z. Tong et al., "VideoMAE", NeurIPS 2022; C. Feichtenhofer et al., "Masked Autoencoders As
    Spatiotemporal Learners", NeurIPS 2022.

    Examples
    --------
    >>> import flowpipe
    >>> small = {"segments": 2, "input_size": 32, "epochs": 1, "warmup": 0.0}
    >>> models = flowpipe.pretrain(
    ...     "videos", "flow", "encoder", model="timesformer-joint", mask_ratio=0.75,
    ...     splits=["split1"], **small
    ... )
    >>> [str(path) for path in models]
    ['encoder/01-split1/model.safetensors']
    """
    own = {name: options.pop(name) for name in Mae.__dataclass_fields__ if name in options}
    mae = replace(mae or Mae(), **own)
    model = options.get("model", "vivit-1" if isinstance(stream, str) else stream.network.model)
    check_pretrains(model)
    if not isinstance(stream, Stream):
        options["model"] = model
        stream = pretraining(preset(stream, options.get("modality", "flow"), model))
    stream = stream.changed(**options)
    if protocol == UNLABELLED:
        if isinstance(dataset, Dataset) or kind != AUTO or lists or splits:
            raise ParameterError(
                "protocol is 'none', which takes all clips of a folder: dataset must be the "
                "folder, and kind, lists and splits do not apply"
            )
        chosen, final = unlabelled_flow(dataset, flow), True
    else:
        chosen = labelled_flow(dataset, flow, protocol, kind, lists)
    return pretrain_networks(
        chosen,
        stream,
        mae,
        Path(out),
        splits=splits,
        final=final,
        runtime=runtime,
        leave_out_unusable=leave_out_unusable,
    )


def pretrain_networks(
    clips: LabelledFlow,
    stream: Stream,
    mae: Mae,
    out: Path,
    *,
    splits: Sequence[str] = (),
    final: bool = False,
    runtime: TrainingRuntime | None = None,
    leave_out_unusable: bool = False,
) -> list[Path]:
    """Pretrain the network of a stream for each split, on its training clips.

    Parameters
    ----------
    clips
        The set with its flow. Its labels are not used.
    stream, mae, out, splits, final, runtime, leave_out_unusable
        As for :func:`pretrain`.

    Returns
    -------
    list of Path
        The files of the masked autoencoders.

    Raises
    ------
    ParameterError, StageMismatchError, UnusableClipsError
        As for :func:`pretrain`.
    """
    if stream.training.backbone_rate == 0:
        raise ParameterError("backbone_rate is 0; pretraining trains the whole network")
    runtime = runtime or TrainingRuntime()
    names = [split.name for split in clips.chosen(splits)] + [FINAL] * final
    clips = with_usable_clips(clips, names, stream.clip, leave_out=leave_out_unusable)
    description = _description(clips, stream, mae)
    chosen = [clips.split(name) for name in names]
    folders = {split.name: clips.folder(split, out) for split in chosen}
    files = {name: folder / AUTOENCODER.name for name, folder in folders.items()}
    started = {split.name: started_stream(stream, [clips], split) for split in chosen}
    if not all(file.exists() for file in files.values()):
        check_pretrains(stream.network.model)
        check_input(stream.network, stream.clip)
        with autocast(pick_device(runtime.device), stream.training.amp):
            prepare(_network(next(iter(started.values())), mae), stream.training)
    with process_group(runtime.device) as group:
        provenance.open_stage(out, description)
        if group.is_main:
            record_dataset(clips.dataset, out)
        for split in chosen:
            name = split.name
            about: Json = {
                "split": name,
                "clips": provenance.digest(sorted(split.train)),
                "splits": [clips.identity(name)],
                "stream": description,
            }
            if (own := started[name]) != stream:
                about["weights"] = identity(own.weights)
            if group.is_main and not files[name].exists():
                logger.info(f"{name}: {len(split.train)} clips, {stream.network.model}, no labels")
            elif group.is_main:
                logger.info(f"{name}: pretrained already")
            progress = TrainingProgress(name)
            train_network(
                _network(own, mae, begin=not files[name].exists()),
                stream_clips(
                    clips.flow,
                    [(clip, 0) for clip, _ in clips.clips(split.train)],
                    stream.clip,
                    sampling="random",
                    transform=training_transform(stream.clip),
                    seed=stream.training.seed,
                ),
                stream.training,
                folders[name],
                about,
                AUTOENCODER,
                group=group,
                loading=DataLoading(runtime.workers, runtime.checkpoint_every),
                tensorboard=runtime.tensorboard,
                report=progress.finish_epoch,
                advance=progress.advance,
            )
        if group.is_main:
            atomic.remove_stale(out)
    return list(files.values())


def _network(stream: Stream, mae: Mae, *, begin: bool = True) -> MaskedAutoencoder:
    """Return the masked autoencoder of a stream, with its initial weights if it is to begin."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream.training.seed)
        network = MaskedAutoencoder(stream.network, stream.clip, mae)
        if begin:
            initialise(network.stream, stream.weights)
    return network


def _description(clips: LabelledFlow, stream: Stream, mae: Mae) -> Json:
    """Return the record of pretrained networks, which has no labels."""
    own = clips.description()
    del own["classes"]
    own["splits"] = provenance.digest([[s.name, s.train] for s in clips.protocol.splits])
    return {**described(stream), "stage": "pretrain", "mae": asdict(mae), "sets": [own]}
