"""What every stage does where the disk is full, and where two runs of it go on at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowpipe.cli import main
from tests.stages_for_tests import settled, stages, start

STAGES = list(stages(Path(), Path(), Path()))
_PAGE = 4096


@pytest.fixture
def stage(every_stage, request):
    """The folder of every stage's outputs, one stage's name, and the folder of its outputs."""
    root, _ = every_stage
    arguments = stages(root, Path("there"), root)[request.param]
    (folder,) = {Path(each).name for each in arguments if "there" in Path(str(each)).parts}
    return root, request.param, folder


def room_for(folder: Path) -> int:
    return sum(
        _PAGE * -(-path.stat().st_size // _PAGE) for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("stage", STAGES, indirect=True)
def test_a_full_disk_and_room_again(stage, small_disk, capsys):
    """The run stops and says so; after making room it goes on to the bytes of another."""
    root, name, folder = stage
    disk, resize = small_disk
    out = root / "full"
    out.symlink_to(disk)
    arguments = [str(each) for each in stages(root, out, root / "reference", jobs=0)[name]]
    try:
        resize(str(room_for(root / "reference" / folder) // 2))
        with pytest.raises(SystemExit) as end:
            main(arguments)
        told = capsys.readouterr().err
        assert end.value.code == 2, told
        assert "the disk is full" in told
        assert "Traceback" not in told
        assert not list(disk.rglob(".tmp/*"))
        resize("256m")
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0, capsys.readouterr().err
        assert settled(out / folder) == settled(root / "reference" / folder)
    finally:
        out.unlink()


@pytest.mark.parametrize("stage", STAGES, indirect=True)
def test_two_runs_at_once(stage):
    root, name, folder = stage
    out = root / "twice"
    arguments = stages(root, out, root / "reference", jobs=1)[name]
    both = [start(arguments), start(arguments)]
    for process in both:
        told = process.communicate(timeout=300)[0]
        assert process.returncode == 0, told
    assert settled(out / folder) == settled(root / "reference" / folder)
    assert not list(out.rglob(".tmp/*"))
    shutil.rmtree(out)
