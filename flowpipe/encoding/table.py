"""The encoders by the names that a user types.

To add one, write a :class:`flowpipe.encoding.base.ClipEncoder` in a file of its own and add a line
here. Options, help, ``doctor`` and errors read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from flowpipe.encoding.base import ClipEncoder


@dataclass(frozen=True, slots=True)
class Encoder:
    """Describe an encoder.

    Attributes
    ----------
    title
        Its name in prose, in the plural.
    home
        Its class, a :class:`flowpipe.encoding.base.ClipEncoder`, as ``module:name``. The class
        takes the arguments `n_rows` and `random_state`, and those of `options`.
    kernel
        How vectors are compared by the SVM: by their products, or by chi-squared distances.
    rows
        Rows of the training clips to fit to, unless the user gives a number.
    published
        Where it is published.
    options
        For each argument of the class, the field of
        :class:`flowpipe.encoding.parameters.Encoding` that gives its value. Fields that no encoder
        names are common to all.
    """

    title: str
    home: str
    kernel: Literal["linear", "chi2"]
    rows: int
    published: str
    options: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> type[ClipEncoder]:
        """Import the class."""
        module, _, name = self.home.partition(":")
        loaded: Any = getattr(import_module(module), name)
        return loaded  # type: ignore[no-any-return]


ENCODERS: dict[str, Encoder] = {
    "fisher": Encoder(
        "Fisher vectors",
        "flowpipe.encoding.fisher:FisherVector",
        kernel="linear",
        rows=256_000,
        published="Perronnin, Sánchez and Mensink, ECCV 2010",
        options={
            "n_components": "gaussians",
            "pca": "pca",
            "whiten": "whiten",
            "device": "device",
        },
    ),
    "bow": Encoder(
        "bags of words",
        "flowpipe.encoding.bag_of_words:BagOfWords",
        kernel="chi2",
        rows=100_000,
        published="Wang, Kläser, Schmid and Liu, CVPR 2011",
        options={"n_clusters": "clusters"},
    ),
}
