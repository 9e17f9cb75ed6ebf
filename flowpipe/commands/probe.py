"""``probe``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import NameIn, Switch
from flowpipe.commands.options import Lists, ProtocolName, Splits
from flowpipe.datasets.load import KINDS
from flowpipe.models.probes import Probe as ProbeSettings
from flowpipe.training.probe_parameters import ProbeTraining


@dataclass(frozen=True)
class Probe:
    """Train heads on the stored maps of networks, which are not trained, and evaluate them.

    There is one head for each split of the protocol, trained in minutes on a CPU. Writes scores
    that fuse takes, a report, and classifiers for predict. An interrupted run resumes.
    """

    videos: Positional[Annotated[Path, arg(metavar="DATASET")]]
    """Labelled set: its folder, or its list."""
    maps: Positional[Annotated[tuple[Path, ...], arg(metavar="MAPS")]]
    """Folders of features --maps or --tokens, of one layer each. The networks must not have been
    trained on test clips."""
    settings: Annotated[ProbeSettings, arg(name="")] = field(default_factory=ProbeSettings)
    training: Annotated[ProbeTraining, arg(name="")] = field(default_factory=ProbeTraining)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """List files of the set, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested: the official splits of the set, leave one group out,
    K folds of whole groups (such as 5-fold), or a JSON file of splits."""
    split: Splits = ()
    """Names of the splits."""
    final: Switch = False
    """Also train a head on all clips, with which predict labels new videos."""
    out: Path = Path("probe")
    """Output folder: scores.npz, metrics.json, report.html, and the classifiers."""
    leave_out_unusable: Switch = False
    """Leave out clips without maps, in place of an error. Each is named with the reason."""
    device: str = "auto"
    """Device of the head: a GPU if there is one (auto), cpu, or a torch device such as cuda:1."""
    checkpoint_every: Annotated[int, arg(metavar="STEPS")] = 200
    """Number of training steps between checkpoints."""

    def run(self) -> int:
        """Train and evaluate."""
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.probe import probe
        from flowpipe.training.data.stored_maps import map_names, map_records

        map_records(self.maps)
        stored = map_names(self.maps[0])
        probe(
            load_dataset(self.videos, self.dataset, self.lists, stored=stored),
            self.maps,
            self.out,
            self.settings,
            self.training,
            protocol=self.protocol,
            splits=self.split,
            final=self.final,
            device=self.device,
            checkpoint_every=self.checkpoint_every,
            leave_out_unusable=self.leave_out_unusable,
        )
        return 0
