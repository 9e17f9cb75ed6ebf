"""``models``."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from flowpipe._options import Switch
from flowpipe.models import MODELS
from flowpipe.models.clip_input import Modality
from flowpipe.models.entry import Views

if TYPE_CHECKING:
    from flowpipe.models.describe import ModelDescription


@dataclass(frozen=True)
class Models:
    """List the networks: their input, parameters, multiply-adds, paper and accuracy.

    With names, show all that is known of these: also the recipe, the test views, and where weights
    come from.
    """

    names: Positional[
        Annotated[tuple[str, ...], arg(name="names", metavar="[NAME ...]", help_behavior_hint="")]
    ] = ()
    """Networks to show; by default all, in a table."""
    modality: Modality = "rgb"
    """What the networks see, as for train."""
    backbone: Annotated[str, arg(metavar="NAME")] = "resnet50"
    """2-D network inside those that have one."""
    num_classes: int = 400
    """Number of classes; 400 is that of Kinetics-400."""
    json: Switch = False
    """Print JSON, with all values."""
    figure: Annotated[
        Path | None, arg(metavar="FILE.svg", help_behavior_hint="(default: none)")
    ] = None
    """Draw the architecture of the network of this name, stage by stage, into an SVG file."""

    def run(self) -> int:
        """Print the networks, and draw one."""
        from flowpipe.errors import ParameterError
        from flowpipe.models.describe import describe_model

        if self.figure is not None:
            self._draw(self.figure)
        described, refused = [], []
        for name in self.names or MODELS:
            try:
                described.append(
                    describe_model(name, self.modality, self.num_classes, backbone=self.backbone)
                )
            except ParameterError as error:
                # tsn takes every modality and backbone that there is.
                if self.names or name == "tsn":
                    raise
                refused.append(f"{name}: {error}")
        if self.json:
            print(json.dumps([asdict(each) for each in described], indent=2))
        elif self.names:
            print("\n\n".join("\n".join(_lines(each)) for each in described))
        else:
            _print_table(described)
            if refused:
                print("\n".join(["\nNot listed:", *refused]))
        return 0

    def _draw(self, path: Path) -> None:
        """Draw the network that is named."""
        from flowpipe.errors import ParameterError
        from flowpipe.report.architecture import draw_model

        if len(self.names) != 1:
            raise ParameterError(
                f"figure is {str(path)!r}, and {len(self.names)} networks are named; it takes one"
            )
        if path.suffix != ".svg":
            raise ParameterError(f"figure is {str(path)!r}; the name must end in .svg")
        drawing = draw_model(self.names[0], self.modality, self.num_classes, backbone=self.backbone)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(drawing, encoding="utf-8")


def _print_table(described: list[ModelDescription]) -> None:
    rows = [("model", "C T H W", "params (M)", "MACs (G)", "paper", "published accuracy in %")]
    for each in described:
        shape = " ".join(map(str, each.shape))
        costs = f"{each.parameters / 1e6:.2f}", f"{each.multiply_adds / 1e9:.2f}"
        venue = each.published.rpartition(", ")[2]
        rows.append((each.name, shape, *costs, venue, each.accuracy))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if place in (2, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(
        "\nMillions of parameters, and billions of multiply-adds for one clip of this shape:\n"
        "channels, time, height, width. flowpipe models NAME has the paper's title and the recipe."
    )


def views_text(views: Views, size: int) -> str:
    """Return the test views of a network whose input is `size` pixels wide."""
    clips = "all frames" if views.clips == "all" else _counted(views.clips, "clip")
    crop, short = round(views.crop * size), round(views.short_side * size)
    return (
        f"{clips} x {_counted(views.crops, 'crop')} of {crop} pixels, short side {short}; "
        f"the average of {views.average}"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def _lines(model: ModelDescription) -> list[str]:
    recipe = "not known; TSN's is used"
    if model.recipe is not None:
        options = ", ".join(f"{name} {value}" for name, value in model.recipe.items())
        recipe = f"{options or 'the preset tsn'} ({model.trained_on})"
    views = "not known"
    if model.views is not None:
        views = views_text(model.views, model.shape[2])
    lines = [
        f"{model.name}: {model.title}",
        f"  paper          {model.published}",
        f"  accuracy in %  {model.accuracy or 'not known'}",
        f"  clip           {' x '.join(map(str, model.shape))} (channels, time, height, width)",
        f"  parameters     {model.parameters / 1e6:.2f} million",
        f"  multiply-adds  {model.multiply_adds / 1e9:.2f} billion",
        f"  recipe         {recipe}",
        f"  test views     {views}",
        f"  weights        {model.weights or 'none known'}",
    ]
    columns = shutil.get_terminal_size().columns
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            line,
            columns,
            subsequent_indent=17 * " ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
