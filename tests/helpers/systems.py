"""Systems in place of networks and solvers: they count how often they are run, and draw scores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison, Cost, Group, Prepared, System


def drawn_scores(protocol: Protocol, seed: int, right: float) -> Scores:
    """Scores in which the true class of a share of the tests has a larger one."""
    rng = np.random.default_rng(seed)
    parts = []
    for split in protocol.splits:
        table = rng.random((len(split.test), len(protocol.classes)), np.float32)
        labels = protocol.indices(split.test)
        table[np.arange(len(labels)), labels] += rng.random(len(labels)) < right
        parts.append(protocol.scored(split.name, split.test, table))
    return Scores(protocol.classes, tuple(parts))


@dataclass
class Stub:
    """A system whose scores are drawn.

    It takes `steps` steps of `pause` seconds; each is kept in the output folder, as checkpoints
    are, so that an interrupted run resumes.
    """

    seed: int
    right: float = 0.5
    streams: tuple[str, ...] = ("features",)
    work: float = 0.0
    steps: int = 1
    pause: float = 0.0
    error: Exception | None = None
    runs: list[str] = field(default_factory=list)

    def __call__(self, on: Comparison) -> Prepared:
        def run(meter: Meter) -> Mapping[str, Scores]:
            self.runs.append(meter.job)
            if self.error is not None:
                raise self.error
            for step in range(self.steps):
                mark = Path(on.out, f"stub-{self.seed}", str(step))
                if not mark.exists():
                    with meter.part("training"):
                        time.sleep(self.pause)
                    mark.parent.mkdir(parents=True, exist_ok=True)
                    mark.touch()
                meter.finished((step + 1) / self.steps)
            return {
                stream: drawn_scores(on.protocol, 100 * self.seed + number, self.right)
                for number, stream in enumerate(self.streams)
            }

        cost = Cost(1000 * self.seed, 10**6, self.work) if self.work else None
        settings = {"seed": self.seed, "right": self.right, "epochs": on.settings.epochs}
        return Prepared(settings, run, cost=lambda: cost)

    def system(self, group: Group = "2d", rank: int = 4) -> System:
        """Return it as an entry of the table."""
        return System(group, f"draws with seed {self.seed}", "nowhere", self.streams, rank, self)


def made_up(tests: int = 12, classes: int = 3, splits: int = 2) -> tuple[Dataset, Protocol]:
    """A set without videos, each of whose splits tests as many clips, and its protocol."""
    labels = tuple(f"class{number:03d}" for number in range(classes))
    clips = tuple(
        Clip(Path(f"nowhere/{number}.avi"), f"{labels[number % classes]}/{number:06d}",
             labels[number % classes])
        for number in range(tests * (splits + 1))
    )  # fmt: skip
    names = [clip.name for clip in clips]
    divided = []
    for number in range(splits):
        test = names[number * tests : (number + 1) * tests]
        rest = [*names[: number * tests], *names[(number + 1) * tests :]]
        divided.append(Split(f"split{number + 1}", tuple(rest), tuple(test)))
    dataset = Dataset("made up", clips, labels, tuple(divided))
    of_clips = {clip.name: str(clip.label) for clip in clips}
    return dataset, Protocol("official", labels, tuple(divided), of_clips)
