"""The pages of the documentation name what exists."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from flowpipe.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def _ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def _help(command: str, *method: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, *method, "--help"])
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_named_tests_and_scripts_exist(page):
    named = re.findall(r"(?:tests|scripts)/[\w/]+(?:\.py|\.sh)?", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_commands_and_their_options_exist(page):
    text = re.sub(r"\\\n", " ", page.read_text())
    quoted = re.findall(r"^    (.*)$", text, re.M) + re.findall(r"`([^`\n]+)`", text)
    unknown = []
    for line in quoted:
        for call in re.findall(r"(?:^|[\s=])flowpipe ([a-z][a-z-]+)(?=\s|$)([^#|&]*)", line):
            command, rest = call
            if rest.strip().isdigit():
                continue  # the name and version of a file format
            if command not in COMMANDS:
                unknown.append(f"{command}: {line}")
                continue
            options = re.findall(r"(?<!\S)--[a-z][\w.-]*", rest)
            # The options of a method exist only with it.
            shown = _help(command, *re.findall(r"--method(?= )|(?<=--method )\w+", rest))
            unknown += [f"{option}: {line}" for option in options if option not in shown]
    assert unknown == []
