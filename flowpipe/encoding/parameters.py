"""How descriptors become vectors: the parameters of the stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from flowpipe.encoding.pyramid import n_cells
from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json

Descriptor = Literal["trajectory", "hog", "hof", "mbhx", "mbhy"]

_ROWS = {"fisher": 256_000, "bow": 100_000}

DESCRIPTORS: tuple[Descriptor, ...] = ("trajectory", "hog", "hof", "mbhx", "mbhy")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the descriptors of a clip become vectors."""

    encoding: Literal["fisher", "bow"] = "fisher"
    """Fisher vectors, or bags of words."""
    descriptors: tuple[Descriptor, ...] = DESCRIPTORS
    """Each has an encoder and a vector of its own."""
    gaussians: int = 256
    """Components of the mixture of Fisher vectors."""
    pca: float = 0.5
    """Part of the dimensions that is kept before the mixture; 1 keeps and decorrelates all."""
    whiten: bool = False
    """Scale the principal components to unit variance."""
    clusters: int = 4000
    """Clusters of k-means, the bins of a histogram of bag of words."""
    rows: int | None = None
    """Rows of the training clips to fit to, balanced over the clips; without a number as many as
    the papers take, 256 000 for fisher and 100 000 for bow."""
    pyramid: tuple[str, ...] = ("1",)
    """Grids of the clip, each cell with a vector of its own: 1 (the whole), h3, t2, h3t2."""
    seed: int = 0
    """Of the sample of rows, k-means and the mixture."""

    def __post_init__(self) -> None:
        if self.encoding not in ("fisher", "bow"):
            raise ParameterError(f"encoding is {self.encoding!r}; it must be 'fisher' or 'bow'")
        unknown = set(self.descriptors) - set(DESCRIPTORS)
        if unknown or not self.descriptors or len(set(self.descriptors)) < len(self.descriptors):
            raise ParameterError(
                f"descriptors are {', '.join(self.descriptors) or 'none'}; they must be one or "
                f"more of {', '.join(DESCRIPTORS)}, each once"
            )
        for name in ("gaussians", "clusters", "n_rows"):
            if (value := getattr(self, name)) < 1:
                name = name.removeprefix("n_")
                raise ParameterError(f"{name} is {value}; it must be at least 1")
        if self.seed < 0:
            raise ParameterError(f"seed is {self.seed}; it must be 0 or more")
        if not 0 < self.pca <= 1:
            raise ParameterError(f"pca is {self.pca}; it must be more than 0 and at most 1")
        if not self.pyramid:
            raise ParameterError("pyramid has no grid; 1 is the whole clip")
        n_cells(self.pyramid)

    @property
    def n_rows(self) -> int:
        """Rows to fit to."""
        return _ROWS[self.encoding] if self.rows is None else self.rows

    def description(self) -> Json:
        """Everything that determines the vectors, besides the trajectories and the split."""
        shared = ("encoding", "descriptors", "pyramid", "seed")
        own = {"fisher": ("gaussians", "pca", "whiten"), "bow": ("clusters",)}[self.encoding]
        values = asdict(self)
        chosen = {name: values[name] for name in (*shared, *own)}
        return {"stage": "encode", **chosen, "rows": self.n_rows}
