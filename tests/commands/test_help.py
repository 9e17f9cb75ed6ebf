"""The help of every command can be read without the code."""

from __future__ import annotations

import re

import pytest

from flowpipe.cli import COMMANDS, main

# Words that only this project used, for what has a name in the field.
HOME_MADE = (
    "crew", "hosts", "footage", "ledger", "film", "stills", "upkeep", "goes on", "go on", "anew",
    "stands", "is told", "a zip a clip", "the preset's", "machines (",
)  # fmt: skip


def help_of(name, capsys, *options):
    with pytest.raises(SystemExit) as end:
        main([name, *options, "--help"])
    assert end.value.code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_in_the_words_of_the_field(name, capsys):
    text = help_of(name, capsys)
    assert "{None}" not in text
    assert "(default: None)" not in text
    lowered = text.lower()
    assert [word for word in HOME_MADE if re.search(rf"\b{re.escape(word)}", lowered)] == []


def test_help_shows_the_values_of_a_preset(capsys):
    assert "--tvl1.warps INT" in help_of("extract-flow", capsys)
    fast = help_of("extract-flow", capsys, "--preset", "fast")
    assert re.search(r"--tvl1.warps INT [^(]*\(default: 3\)", fast)
    accurate = help_of("extract-flow", capsys, "--preset", "accurate")
    assert re.search(r"--tvl1.median \{1,3,5\} [^(]*\(default: 5\)", accurate)
    assert "{None}" not in help_of("extract-flow", capsys, "--method", "dis")
    dis = help_of("extract-flow", capsys, "--method", "dis")
    assert "--dis.patch-size" in dis
    assert "--tvl1" not in dis
    small = help_of("train", capsys, "--preset", "small", "--modality", "rgb")
    assert re.search(r"--epochs INT [^(]*\(default: 60\)", small)
    assert re.search(r"--backbone NAME [^(]*\(default: resnet18\)", small)
    tsm = help_of("train", capsys, "--model", "tsm")
    assert re.search(r"--segments INT [^(]*\(default: 8\)", tsm)
