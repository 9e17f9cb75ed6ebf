"""Initial weights of a split, from a network that has not seen its test clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowpipe.classify.splits import FINAL
from flowpipe.datasets.base import Split
from flowpipe.errors import ParameterError
from flowpipe.models.described import about_any
from flowpipe.pipelines.labelled import LabelledFlow
from flowpipe.training.parameters import Stream
from flowpipe.training.train import MODEL_NAME

logger = logging.getLogger(__name__)


def started_stream(stream: Stream, sets: Sequence[LabelledFlow], split: Split) -> Stream:
    """Return a stream with the initial weights of a split: of its network in a folder of train.

    A file that was trained on another split of the same set is taken, with a warning: whoever names
    it may not test.

    Raises
    ------
    ParameterError
        The folder has no such network, or was trained on other splits of the same set, so that it
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
        if split.name == FINAL or not _is_other_split(path, sets, split):
            continue
        seen = f"{path} was trained on other clips of this set than those of {split.name}"
        if name in changed:
            raise ParameterError(
                f"{name} is {given!r}: {seen}, so that it may have seen test clips; it must be a "
                "folder in which train has trained the same splits"
            )
        logger.warning(f"{seen}; it may have seen test clips, and accuracies may be too high")
    return replace(stream, **changed)


def _is_other_split(path: Path, sets: Sequence[LabelledFlow], split: Split) -> bool:
    """Return whether a network was trained on another split of the clips of one of the sets."""
    found = (about_any(path) or {}).get("splits")
    seen = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    own = [each.identity(split.name) for each in sets]
    return any(
        it.get("clips") == each["clips"] and it.get("split") != each["split"]
        for it in seen
        for each in own
    )
