"""Kinds of failures: one table that code and docs agree with."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowpipe
from flowpipe.errors import FAILURE_KINDS, FlowpipeError

ROOT = Path(flowpipe.__file__).parent
DOCS = ROOT.parent / "docs/formats.md"


def error_classes(base: type[FlowpipeError]) -> Iterator[type[FlowpipeError]]:
    yield base
    for each in base.__subclasses__():
        yield from error_classes(each)


def test_every_error_has_a_kind_of_the_table():
    for module in pkgutil.walk_packages(flowpipe.__path__, "flowpipe."):
        # Modules that need an extra or a GPU define no errors.
        if re.search(r"on_(dask|ray)|cuda|__main__", module.name) is None:
            importlib.import_module(module.name)
    ours = [each for each in error_classes(FlowpipeError) if each.__module__.startswith("flowpipe")]
    assert len(ours) > 15
    assert {each.__name__: each.kind for each in ours if each.kind not in FAILURE_KINDS} == {}


def test_every_kind_that_a_run_records_by_itself_is_in_the_table():
    recorded = {
        kind
        for path in ROOT.rglob("*.py")
        for kind in re.findall(r'"failed",\s+"([a-z-]+)"', path.read_text())
    }
    assert {"worker-died", "timeout", "os", "internal"} <= recorded
    assert recorded <= set(FAILURE_KINDS)


@pytest.mark.skipif(not DOCS.exists(), reason="flowpipe is installed without its docs")
def test_the_docs_have_the_same_table():
    section = DOCS.read_text().partition("## Records of a run")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|$", section, re.MULTILINE)
    assert rows == list(FAILURE_KINDS.items())


@pytest.mark.parametrize("meaning", FAILURE_KINDS.values())
def test_a_meaning_is_a_sentence(meaning):
    assert re.fullmatch(r"[A-Z][^|\n]+\.", meaning)
