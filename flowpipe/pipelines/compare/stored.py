"""Results of systems on disk: what has been run, with which settings, and the scores.

A finished system has a folder ``system-<name>-<hash>`` that appears at once: its record, the scores
of each stream, and what its networks take. Whether a system has been run is whether this folder is
there, with the record of the settings that are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores, load_scores, save_scores
from flowpipe.errors import FormatError
from flowpipe.pipelines.compare.system import Comparison, Cost, Prepared, System
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import short_hash

_FACTS = "facts.json"


@dataclass(frozen=True)
class Stored:
    """The results of a system.

    Attributes
    ----------
    name, system
        The system.
    folder
        Where they are, or will be.
    settings
        All that determines the scores, beside clips, splits and training labels.
    """

    name: str
    system: System
    folder: Path
    settings: Json
    description: Json

    @property
    def job(self) -> str:
        """The name of what was measured of the system."""
        return self.folder.name

    @property
    def is_done(self) -> bool:
        """Whether the system has been run."""
        if not (self.folder / _FACTS).is_file():
            return False
        recorded = provenance.read_stage(self.folder)
        return recorded is not None and not provenance.differences(recorded, self.description)

    def write(self, scores: Mapping[str, Scores], cost: Cost | None, out: Path) -> None:
        """Write the results of a system."""
        with atomic.new_folder(self.folder, out) as folder:
            for stream, each in scores.items():
                save_scores(folder / f"{stream}.npz", each, out)
            facts = {"cost": None if cost is None else asdict(cost)}
            (folder / _FACTS).write_bytes(json_files.to_json(facts))
            record = provenance.stage_path(folder)
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_bytes(json_files.to_json(self.description))

    def scores(self, stream: str, protocol: Protocol) -> Scores:
        """Return the scores of a stream, with the labels of the protocol.

        Raises
        ------
        FormatError
            The file is damaged, or lacks.
        """
        path = self.folder / f"{stream}.npz"
        try:
            found = load_scores(path)
        except FileNotFoundError:
            raise FormatError(f"{str(path)!r} is missing; remove {str(self.folder)!r}") from None
        # Labels of test clips may have been corrected.
        splits = tuple(
            protocol.scored(split.split, split.names, split.scores) for split in found.splits
        )
        return Scores(found.classes, splits)

    def cost(self) -> Cost | None:
        """Return what its networks take."""
        found = json_files.read_json(self.folder / _FACTS).get("cost")
        return None if found is None else Cost(**found)

    def tried(self) -> int:
        """Return how many settings of the system have been tested in this folder."""
        pattern = re.compile(rf"system-{re.escape(self.name)}-[0-9a-f]{{8}}")
        return sum(
            1 for path in self.folder.parent.glob("system-*") if pattern.fullmatch(path.name)
        )


def stored(name: str, system: System, prepared: Prepared, on: Comparison) -> Stored:
    """Return where the results of a system are, or will be."""
    description = {
        "stage": "system",
        "system": name,
        "protocol": on.protocol.name,
        "clips": on.clip_digest,
        "settings": prepared.settings,
    }
    folder = on.out / f"system-{name}-{short_hash(description)}"
    return Stored(name, system, folder, prepared.settings, description)
