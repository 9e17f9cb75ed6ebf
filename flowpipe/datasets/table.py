"""The kinds of labelled sets by the names that a user types.

To add one, write a function from the set's folder to a :class:`flowpipe.datasets.base.Dataset` in a
file of its own and add a line here. Commands, help, ``doctor`` and errors read this table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from flowpipe.datasets import folders, hmdb51, kth, ucf101, ut_interaction, weizmann
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.by_name import named_like
from flowpipe.datasets.kinetics import is_kinetics_csv
from flowpipe.datasets.names import FoundClip

LIST_NAME = "dataset.csv"
"""List that is looked for in the folder of a set."""
SYNTHETIC_NAME = "synthetic.json"

Detect = Callable[[Path, Sequence[FoundClip]], bool]


def _never(root: Path, found: Sequence[FoundClip]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class DatasetKind:
    """Describe a kind of labelled sets.

    Attributes
    ----------
    title
        What it is, in prose.
    home
        Its reader, as ``module:function``. It takes the folder, and the lists if it takes any.
    detect
        Whether a folder, with the clips that were found in it, is of this kind. The first entry of
        the table that says so is taken.
    lists
        What lists it takes: none, a folder or file, or any number of files.
    protocol
        How papers evaluate it.
    published
        Where it is published.
    facts
        Its counts are known; see :mod:`flowpipe.datasets.facts`.
    """

    title: str
    home: str
    detect: Detect = _never
    lists: Literal["none", "one", "any"] = "none"
    protocol: str = "leave one group out"
    published: str = ""
    facts: bool = False

    def read(self, root: Path, lists: Sequence[Path] = (), **options: Any) -> Dataset:
        """Read a set of this kind."""
        module, _, name = self.home.partition(":")
        reader = getattr(import_module(module), name)
        dataset: Dataset
        if self.lists == "none":
            dataset = reader(root, **options)
        elif self.lists == "one":
            dataset = reader(root, lists[0] if lists else None, **options)
        else:
            dataset = reader(root, lists, **options)
        return dataset


DATASETS: dict[str, DatasetKind] = {
    "synthetic": DatasetKind(
        "the set that flowpipe draws",
        "flowpipe.datasets.synthetic:read_synthetic",
        lambda root, found: (root / SYNTHETIC_NAME).is_file(),
        protocol="3 splits, or leave one group out",
    ),
    "csv": DatasetKind(
        "a CSV file with the header path,label",
        "flowpipe.datasets.load:read_csv",
        lambda root, found: (root / LIST_NAME).is_file(),
        lists="one",
        protocol="the splits of the file",
    ),
    "kinetics": DatasetKind(
        "Kinetics",
        "flowpipe.datasets.kinetics:kinetics",
        lambda root, found: any(is_kinetics_csv(path) for path in root.glob("*.csv")),
        lists="any",
        protocol="train against val",
        published="Kay et al., arXiv:1705.06950, 2017",
    ),
    "tsn": DatasetKind(
        "lists of TSN, a line: path n_frames label",
        "flowpipe.datasets.lists:tsn_lists",
        lists="any",
        protocol="training against test list",
        published="Wang et al., ECCV 2016",
    ),
    "ucf101": DatasetKind(
        "UCF101",
        "flowpipe.datasets.ucf101:ucf101",
        named_like("ucf101", ucf101.PATTERN),
        lists="one",
        protocol="mean of 3 official splits",
        published="Soomro, Zamir and Shah, CRCV-TR-12-01, 2012",
        facts=True,
    ),
    "hmdb51": DatasetKind(
        "HMDB51",
        "flowpipe.datasets.hmdb51:hmdb51",
        hmdb51.detect,
        lists="one",
        protocol="mean of 3 official splits",
        published="Kuehne et al., ICCV 2011",
        facts=True,
    ),
    "kth": DatasetKind(
        "KTH actions",
        "flowpipe.datasets.kth:kth",
        named_like("kth", kth.PATTERN),
        protocol="train on 16 persons, test on 9",
        published="Schuldt, Laptev and Caputo, ICPR 2004",
        facts=True,
    ),
    "weizmann": DatasetKind(
        "Weizmann actions",
        "flowpipe.datasets.weizmann:weizmann",
        named_like("weizmann", weizmann.PATTERN),
        protocol="leave one actor out",
        published="Blank et al., ICCV 2005",
        facts=True,
    ),
    "ut-interaction": DatasetKind(
        "UT-Interaction, segmented",
        "flowpipe.datasets.ut_interaction:ut_interaction",
        ut_interaction.detect,
        protocol="leave one sequence out",
        published="Ryoo and Aggarwal, ICPR contests 2010",
        facts=True,
    ),
    "split-folders": DatasetKind(
        "folders <train, test or val>/<class>/<clip>",
        "flowpipe.datasets.folders:split_folders",
        folders.has_split_folders,
        protocol="training against test folder",
    ),
    "subject-folders": DatasetKind(
        "folders <subject>/<class>/<clip>",
        "flowpipe.datasets.folders:subject_folders",
        protocol="leave one subject out",
    ),
    "folders": DatasetKind(
        "folders <class>/<clip>",
        "flowpipe.datasets.folders:class_folders",
        folders.check_class_folders,
        protocol="leave one clip out",
    ),
}
