"""Networks that may have seen test clips: as initial weights, and as a source of features."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.splits import FINAL, split_identity
from flowpipe.datasets.base import Split
from flowpipe.errors import ParameterError
from flowpipe.models.described import about_any
from flowpipe.pipelines.labelled import LabelledFlow
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.parameters import Stream
from flowpipe.training.train import MODEL_NAME

logger = logging.getLogger(__name__)


def started_stream(stream: Stream, sets: Sequence[LabelledFlow], split: Split) -> Stream:
    """Return a stream with the initial weights of a split: of its network in a folder of train.

    A file that was trained on another split of the same clips is taken, with a warning: whoever
    names it may not test.

    Raises
    ------
    ParameterError
        The folder has no such network, or was trained on other splits of the same clips, so that it
        may have seen test clips.
    """
    changed: dict[str, Any] = {}
    for name in ("weights", "flow_weights"):
        given = getattr(stream, name)
        if given is None or not Path(given).exists():
            continue
        path = Path(given)
        if path.is_dir():
            folder = sets[0].folder(split, path).name
            path = path / folder / MODEL_NAME
            if not path.is_file():
                raise ParameterError(
                    f"{name} is {given!r}, which has no {folder}/{MODEL_NAME}; it must be a folder "
                    "in which train has trained the same splits"
                )
            changed[name] = str(path)
        trained_on = (about_any(path) or {}).get("splits")
        own = [each.identity(split.name) for each in sets]
        if split.name == FINAL or not _differ(trained_on, own):
            continue
        seen = f"{path} was trained on other clips of this set than those of {split.name}"
        if name in changed:
            raise ParameterError(
                f"{name} is {given!r}: {seen}, so that it may have seen test clips; it must be a "
                "folder in which train has trained the same splits"
            )
        logger.warning(f"{seen}; it may have seen test clips, and accuracies may be too high")
    return replace(stream, **changed)


def warn_of_seen_clips(
    features: Iterable[Path], protocol: Protocol, splits: Iterable[Split] = ()
) -> None:
    """Log where features or maps are of a network that was trained on clips of another split.

    Parameters
    ----------
    features
        Folders of features or maps, each of which may be of a network of ``train``.
    protocol
        The protocol, with the clips that cannot be used.
    splits
        Those that are run; by default all.
    """
    for folder in features:
        trained_on = (provenance.read_stage(folder) or {}).get("trained_on")
        names = [
            split.name
            for split in splits or protocol.splits
            if _differ(trained_on, [split_identity(protocol.names, split)])
        ]
        if names:
            logger.warning(
                f"{folder}: the network was trained on other clips of this set than those of "
                f"{', '.join(names)}; it may have seen test clips, and accuracies may be too high"
            )


def _differ(trained_on: object, own: Sequence[Json]) -> bool:
    """Return whether a network was trained on another split of the clips of one of the sets."""
    recorded = trained_on if isinstance(trained_on, list) else []
    return any(
        it.get("clips") == each["clips"] and it.get("train") != each["train"]
        for it in recorded
        if isinstance(it, dict)
        for each in own
    )
