"""The parameters of encoding: how descriptors become vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from flowpipe._options import NameIn, Switch
from flowpipe.encoding.pyramid import n_cells
from flowpipe.encoding.table import ENCODERS, Encoder
from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json

if TYPE_CHECKING:
    from flowpipe.encoding.base import ClipEncoder

Descriptor = Literal["trajectory", "hog", "hof", "mbhx", "mbhy"]

_DEFAULT_ROWS = f"(default: {', '.join(f'{e.rows} for {n}' for n, e in ENCODERS.items())})"

DESCRIPTORS: tuple[Descriptor, ...] = ("trajectory", "hog", "hof", "mbhx", "mbhy")
POOLED = "tdd-"
"""How the names of descriptors begin that are maps of a network, pooled along trajectories."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the descriptors of a clip become vectors.

    Options of other encoders than the chosen one must keep their defaults.
    """

    encoding: Annotated[str, NameIn(ENCODERS)] = "fisher"
    """Encoder of the descriptors: Fisher vectors, or bags of words (bow)."""
    descriptors: tuple[Descriptor, ...] = DESCRIPTORS
    """Descriptors to use. Each has an encoder and a vector of its own."""
    gaussians: int = 256
    """Number of Gaussians in the mixture model of Fisher vectors."""
    pca: float = 0.5
    """Fraction of the dimensions that PCA keeps before Fisher vectors; 1 decorrelates only."""
    whiten: Switch = False
    """Scale the principal components to unit variance before Fisher vectors."""
    device: str = "cpu"
    """Device that computes Fisher vectors: cpu, or a torch device such as cuda."""
    clusters: int = 4000
    """Number of clusters of k-means for bags of words, the bins of a histogram."""
    rows: Annotated[int | None, arg(metavar="N", help_behavior_hint=_DEFAULT_ROWS)] = None
    """Number of descriptors of the training clips to fit to, balanced over the clips."""
    pyramid: tuple[str, ...] = ("1",)
    """Spatio-temporal grids, with a vector for each cell: 1 (whole clip), h3, t2, h3t2, ..."""
    seed: int = 0
    """Seed of the sample of descriptors, of k-means and of the mixture model."""
    leave_out_unusable: Switch = False
    """Leave out clips without trajectories, such as those too short for a track. By default they
    have vectors of zeros, are tested, and count as failed in the exit status."""

    def __post_init__(self) -> None:
        if self.encoding not in ENCODERS:
            raise ParameterError(
                f"encoding is {self.encoding!r}; it must be one of {', '.join(ENCODERS)}"
            )
        self._refuse_options_of_others()
        named = {name for name in self.descriptors if not name.startswith(POOLED)}
        unknown = named - set(DESCRIPTORS)
        if unknown or not self.descriptors or len(set(self.descriptors)) < len(self.descriptors):
            raise ParameterError(
                f"descriptors are {', '.join(self.descriptors) or 'none'}; they must be one or "
                f"more of {', '.join(DESCRIPTORS)}, each once"
            )
        for name, value in (
            ("gaussians", self.gaussians),
            ("clusters", self.clusters),
            ("rows", self.n_rows),
        ):
            if value < 1:
                raise ParameterError(f"{name} is {value}; it must be at least 1")
        if self.seed < 0:
            raise ParameterError(f"seed is {self.seed}; it must be 0 or more")
        if not 0 < self.pca <= 1:
            raise ParameterError(f"pca is {self.pca}; it must be more than 0 and at most 1")
        if not self.pyramid:
            raise ParameterError("pyramid has no grid; 1 is the whole clip")
        n_cells(self.pyramid)

    @property
    def encoder(self) -> Encoder:
        """The entry of the table."""
        return ENCODERS[self.encoding]

    @property
    def n_rows(self) -> int:
        """Number of rows to fit to."""
        return self.encoder.rows if self.rows is None else self.rows

    def create(self) -> ClipEncoder:
        """Return an encoder for one descriptor, not yet fitted."""
        chosen = {name: getattr(self, field) for name, field in self.encoder.options.items()}
        return self.encoder.load()(n_rows=self.n_rows, random_state=self.seed, **chosen)

    def description(self) -> Json:
        """Return everything that determines the vectors, besides the trajectories and the split."""
        others = _options_of_all() - set(self.encoder.options.values())
        chosen = {name: value for name, value in asdict(self).items() if name not in others}
        return {"stage": "encode", **chosen, "rows": self.n_rows}

    def _refuse_options_of_others(self) -> None:
        others = _options_of_all() - set(self.encoder.options.values())
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in others and value != field.default:
                users = [name for name, e in ENCODERS.items() if field.name in e.options.values()]
                raise ParameterError(
                    f"{field.name} is {value!r}, but encoding is {self.encoding!r}; "
                    f"{field.name} is an option of {', '.join(users)}"
                )


def _options_of_all() -> set[str]:
    """Return the fields that belong to some encoder."""
    return {name for encoder in ENCODERS.values() for name in encoder.options.values()}
