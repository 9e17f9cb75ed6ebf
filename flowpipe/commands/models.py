"""``models``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from flowpipe.models import MODELS
from flowpipe.models.clip_input import Modality

if TYPE_CHECKING:
    from flowpipe.models.describe import ModelDescription


@dataclass(frozen=True)
class Models:
    """List the networks: their input, parameters, multiply-adds, paper and accuracy.

    With names, show more of these: recipe, test views, and where weights come from.
    """

    names: Positional[
        Annotated[tuple[str, ...], arg(name="names", metavar="NAME", help_behavior_hint="")]
    ] = ()
    """Networks to show; by default all, in a table."""
    modality: Modality = "rgb"
    """What the networks see, as for train."""
    backbone: Annotated[str, arg(metavar="NAME")] = "resnet50"
    """2-D network inside those that have one."""
    num_classes: int = 400
    """Number of classes; 400 is that of Kinetics-400."""
    json: bool = False
    """Print JSON, with all values."""

    def run(self) -> int:
        """Print the networks."""
        from flowpipe.errors import ParameterError
        from flowpipe.models.describe import describe_model

        described = []
        for name in self.names or MODELS:
            try:
                described.append(
                    describe_model(name, self.modality, self.num_classes, backbone=self.backbone)
                )
            except ParameterError:
                if self.names:
                    raise  # others are of networks that do not take the modality or the backbone
        if self.json:
            print(json.dumps([asdict(each) for each in described], indent=2))
        elif self.names:
            print("\n\n".join("\n".join(_lines(each)) for each in described))
        else:
            _print_table(described)
        return 0


def _print_table(described: list[ModelDescription]) -> None:
    rows = [("model", "C T H W", "params (M)", "MACs (G)", "published accuracy", "paper")]
    for each in described:
        shape = " ".join(map(str, each.shape))
        costs = f"{each.parameters / 1e6:.2f}", f"{each.multiply_adds / 1e9:.2f}"
        rows.append((each.name, shape, *costs, each.accuracy, each.published))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if place in (2, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print("\nMillions of parameters, and billions of multiply-adds for one clip of this shape.")


def _lines(model: ModelDescription) -> list[str]:
    recipe = "not known; TSN's is used"
    if model.recipe is not None:
        options = ", ".join(f"{name} {value}" for name, value in model.recipe.items())
        recipe = f"{options or 'the preset tsn'} ({model.trained_on})"
    views = "not known" if model.views is None else "{} clips x {} crops".format(*model.views)
    return [
        f"{model.name}: {model.title}",
        f"  paper          {model.published}",
        f"  accuracy       {model.accuracy or '-'}",
        f"  clip           {' x '.join(map(str, model.shape))} (channels, time, height, width)",
        f"  parameters     {model.parameters / 1e6:.2f} million",
        f"  multiply-adds  {model.multiply_adds / 1e9:.2f} billion",
        f"  recipe         {recipe}",
        f"  test views     {views}",
        f"  weights        {model.weights or 'none known'}",
    ]
