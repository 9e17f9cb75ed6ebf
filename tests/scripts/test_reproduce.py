"""Results of benchmarks are kept with what they depend on, and have no paths of the machine."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce.py"


@pytest.fixture
def reproduce(monkeypatch):
    spec = importlib.util.spec_from_file_location("reproduce", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce", module)
    spec.loader.exec_module(module)
    echo = "import sys; print('ran on', *sys.argv[1:])"
    toys = {
        "toy": module.Benchmark("A toy", ("-c", echo, module.CLIPS)),
        "logged": module.Benchmark(
            "Logged",
            ("-c", "import sys; print('half done\\nidt 98 % of 60 tests', file=sys.stderr)"),
            kept="tests",
        ),
        "broken": module.Benchmark("Broken", ("-c", "raise SystemExit('no such thing')")),
    }
    monkeypatch.setattr(module, "BENCHMARKS", toys)
    return module


def test_a_result_has_command_output_and_machine(reproduce, tmp_path):
    clip = tmp_path / "clip.avi"
    clip.touch()
    out = tmp_path / "pages" / "measurements"
    arguments = ["toy", "--clips", str(clip), "--out", str(out), "--work", str(tmp_path / "work")]
    assert reproduce.main(arguments) == 0
    result = json.loads((out / "toy.json").read_text(encoding="utf-8"))
    assert result["output"] == "ran on clip.avi"
    assert result["command"].endswith("clip.avi")
    assert set(result["machine"]["versions"]) == set(reproduce.PACKAGES)
    page = out.with_name("measurements.md").read_text(encoding="utf-8")
    assert "## A toy" in page
    assert result["machine"]["commit"] in page
    assert str(tmp_path) not in page


def test_the_machine_is_named_where_it_changes(reproduce):
    def result(title, commit):
        machine = {**reproduce.machine(), "commit": commit}
        return {"title": title, "command": "c", "output": "o", "seconds": 1, "machine": machine}

    page = reproduce.page([result("A", "one"), result("B", "one"), result("C", "two")])
    assert page.count("commit one;") == page.count("commit two;") == 1
    assert page.index("## A") < page.index("commit one;") < page.index("## B")
    assert page.index("## C") < page.index("commit two;")


def test_a_failure_stops_no_other_and_results_are_kept(reproduce, tmp_path, capsys):
    clip = tmp_path / "clip.avi"
    clip.touch()
    out = tmp_path / "out"
    arguments = ["--clips", str(clip), "--out", str(out), "--work", str(tmp_path / "work")]
    assert reproduce.main(["broken", "toy", *arguments]) == 1
    assert "broken: it ended with exit status 1: no such thing" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["toy.json"]
    before = (out / "toy.json").stat().st_mtime_ns
    assert reproduce.main(["toy", *arguments]) == 0
    assert (out / "toy.json").stat().st_mtime_ns == before
    assert reproduce.main(["toy", "--again", *arguments]) == 0
    assert (out / "toy.json").stat().st_mtime_ns > before


def test_results_are_taken_from_a_log(reproduce, tmp_path):
    out = tmp_path / "out"
    assert reproduce.main(["logged", "--out", str(out), "--work", str(tmp_path / "work")]) == 0
    result = json.loads((out / "logged.json").read_text(encoding="utf-8"))
    assert result["output"] == "idt 98 % of 60 tests"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy"], "'toy' is none of those with inputs"),
        (["--clips", "nowhere.avi"], "there is no file 'nowhere.avi'"),
        (["--set", "ut"], "'ut' is no NAME=FOLDER"),
        (["--weights", "i3d=nowhere"], "'i3d=nowhere' is no NETWORK=FILE"),
    ],
)
def test_bad_arguments_are_refused(reproduce, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        reproduce.main([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
