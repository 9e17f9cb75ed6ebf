"""Sphinx configuration; build the site with ``sphinx-build -W docs build/site``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("COLUMNS", "100")  # of the commands' help
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import pages

import flowpipe

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


def setup(app: object) -> None:
    """Write the generated pages before Sphinx reads its sources."""
    generated = Path(__file__).parent / "generated"
    (generated / "models").mkdir(parents=True, exist_ok=True)
    pages.write_commands(generated / "commands.md")
    pages.write_choices(generated / "choices.md")
    pages.write_models(generated / "models")
