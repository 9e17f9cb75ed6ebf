"""Write the pages that are made from the program itself: commands, choices, and networks."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

from flowpipe.cli import COMMANDS, main
from flowpipe.commands import doctor
from flowpipe.commands.models import views_text
from flowpipe.models import MODELS
from flowpipe.models.describe import ModelDescription, describe_model
from flowpipe.models.published import CLASSES, models
from flowpipe.report.architecture import draw_model

MEASURED = Path(__file__).parent / "measured.csv"
"""Accuracies measured with flowpipe, and the page with their commands."""


def write_commands(page: Path) -> None:
    """Write the page of commands: what ``--help`` prints of each."""
    lines = ["# Commands", "", "What `flowpipe COMMAND --help` prints.", ""]
    for command in COMMANDS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([command, "--help"])
        lines += [f"## {command}", "", "```text", printed.getvalue().strip(), "```", ""]
    page.write_text("\n".join(lines), encoding="utf-8")


def write_choices(page: Path) -> None:
    """Write the page of what is chosen by name: the entries of the tables that doctor lists."""
    lines = ["# Methods, formats, sets and networks", "", "What is chosen by name.", ""]
    for title, (module, table) in doctor.TABLES.items():
        lines += [f"## {title.capitalize()}s", "", "| name | | published in |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {description} | {published} |"
            for name, description, published in doctor.listing(module, table)
        ]
        lines += ["", f"`{module}.{table}`", ""]
    page.write_text("\n".join(lines), encoding="utf-8")


def write_models(folder: Path) -> None:
    """Write a page for each network, with a figure, and the page that lists them."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        measured = list(csv.DictReader(file))
    lines = [
        "# Networks",
        "",
        "| name | | paper | parameters | multiply-adds |",
        "|---|---|---|---|---|",
    ]
    for name in MODELS:
        model = describe_model(name)
        (folder / f"{name}.svg").write_text(draw_model(name), encoding="utf-8")
        page = _model_page(model, [row for row in measured if row["model"] == name])
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
        lines.append(
            f"| [{name}]({name}.md) | {model.title} | {model.published.rpartition(', ')[2]} "
            f"| {model.parameters / 1e6:.2f} M | {model.multiply_adds / 1e9:.2f} G |"
        )
    lines += [
        "",
        "Parameters and multiply-adds are those of a clip of RGB frames, or of RGB and flow, with "
        "400 classes, on ResNet-50 where a network has a backbone. `flowpipe models` prints this "
        "table, and `flowpipe models NAME --figure FILE.svg` draws a network, also on another "
        "backbone (`--backbone`) or on flow (`--modality flow`).",
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *MODELS,
        "```",
        "",
    ]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")


def _model_page(model: ModelDescription, measured: list[dict[str, str]]) -> str:
    """Return the page of a network."""
    shape = " x ".join(map(str, model.shape))
    modality = "rgb" if MODELS[model.name].takes != "both" else "rgb+flow"
    lines = [f"# {model.name}", "", f"{model.title[0].upper()}{model.title[1:]}.", ""]
    lines += [f"Paper, to cite: {model.published}.", "", "| | |", "|---|---|"]
    lines += [
        f"| clip | {shape} (channels, time, height, width) |",
        f"| parameters | {model.parameters / 1e6:.2f} million |",
        f"| multiply-adds for a clip | {model.multiply_adds / 1e9:.2f} billion |",
        f"| accuracy in the paper or its release, % | {model.accuracy or 'not known'} |",
        f"| weights | {model.weights or 'none known'} |",
    ]
    if model.views is not None:
        lines.append(f"| tested with | {views_text(model.views, model.shape[2])} |")
    if model.recipe is not None:
        options = ", ".join(f"{name} {value}" for name, value in model.recipe.items())
        lines.append(f"| trained with | {options or 'the preset tsn'} ({model.trained_on}) |")
    lines += ["", f"![Stages of {model.name}, from the clip to the scores]({model.name}.svg)", ""]
    lines += ["## Commands", "", "    flowpipe extract-flow videos/ --frames --out flow"]
    lines += [
        f"    flowpipe train videos/ flow --model {model.name} --modality {modality} "
        "--preset published --out stream",
        "    flowpipe evaluate stream videos/ flow --out scores",
        "    flowpipe predict stream new-video.mp4",
    ]
    if model.name in models():
        lines += [
            f"    flowpipe predict {model.name}-{known} new-video.mp4 --weights FILE"
            for known in CLASSES
        ]
    if measured:
        lines += ["", "## Measured with flowpipe", "", "| set | input | accuracy, % (95 %) |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| {row['set']}, {row['protocol']} | {row['input']} | "
            f"[{row['accuracy']} ({row['interval']})](../../{row['page']}) |"
            for row in measured
        ]
    return "\n".join([*lines, ""])
