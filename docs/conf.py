"""Sphinx configuration; build the site with ``sphinx-build -W docs build/site``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("COLUMNS", "100")  # of the commands' help
sys.path.insert(0, str(Path(__file__).parent.parent))

import flowpipe
from flowpipe.cli import COMMANDS, main
from flowpipe.commands import doctor

project = "flowpipe"
author = "The flowpipe developers"
copyright = author
version = release = flowpipe.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["templates"]
root_doc = "index"

html_theme = "pydata_sphinx_theme"
html_title = f"flowpipe {release}"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings have them, with shapes and units
autodoc_inherit_docstrings = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1e6,
    "within_subsection_order": "FileNameSortKey",
}
warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib")


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


def setup(app: object) -> None:
    """Write the generated pages before Sphinx reads its sources."""
    generated = Path(__file__).parent / "generated"
    generated.mkdir(exist_ok=True)
    write_commands(generated / "commands.md")
    write_choices(generated / "choices.md")
