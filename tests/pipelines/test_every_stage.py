"""What disturbs every stage: kills at random moments, a full disk, another run of the same.

In the end the bytes are those of a run that nobody disturbed. ``FLOWPIPE_KILLS`` sets how many
kills; docs/reliability.md has the count of a long run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from flowpipe.cli import main
from tests.helpers.stages import everything, finish, settled, stages, start

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FLOWPIPE_KILLS", "8"))
STAGES = list(stages(Path(), Path(), Path()))
_PAGE = 4096


@pytest.fixture(scope="module")
def every_stage(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """A folder with videos and ``reference``, all that was made of them undisturbed; its times."""
    root = tmp_path_factory.mktemp("every-stage")
    return root, everything(root)


@pytest.fixture
def stage(every_stage, request):
    """The folder of every stage's outputs, one stage's name, and the folder of its outputs."""
    root, _ = every_stage
    return root, request.param, folder_of(request.param)


def folder_of(stage: str) -> str:
    """Name of the folder of a stage's outputs."""
    arguments = stages(Path(), Path("there"), Path())[stage]
    parts = [Path(str(each)).parts for each in arguments]
    (folder,) = {each[each.index("there") + 1] for each in parts if "there" in each}
    return folder


def room_for(folder: Path) -> int:
    return sum(
        _PAGE * -(-path.stat().st_size // _PAGE) for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    "stage", ["flow", "trajectories", "warped flow", "vectors", "scores"], indirect=True
)
def test_a_command_gives_the_same_bytes_with_fresh_and_with_cached_code(
    stage, tmp_path, monkeypatch
):
    root, name, folder = stage
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    for state in ("fresh", "cached"):
        # Beside the reference: records hold paths from the folder of outputs to the videos.
        out = root / f"{state} {name}"
        finish(stages(root, out, root / "reference")[name])
        assert list((tmp_path / "cache").rglob("*.nbc")) or name == "scores"
        found = settled(out / folder)
        shutil.rmtree(out)
        assert found
        assert found == settled(root / "reference" / folder)


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


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def is_killed(arguments: tuple[object, ...], delay: float, rng: np.random.Generator) -> bool:
    """Start a run and kill it, its workers or both after so many seconds, if it still goes on."""
    process = start(arguments)
    with contextlib.suppress(subprocess.TimeoutExpired):
        told = process.communicate(timeout=delay)[0]
        assert process.returncode == 0, told
        return False
    workers = children(process.pid)
    if workers and rng.random() < 0.3:
        # A worker's death costs a clip's first attempt, and the run goes on.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(rng.choice(workers)), signal.SIGKILL)
        time.sleep(rng.uniform(0, 0.5))
    process.kill()
    process.communicate()
    time.sleep(0.3)  # its workers see that it is gone
    return True


@pytest.mark.long
def test_interrupted_at_random_over_all_stages(every_stage):
    """Each kill meets a run that has work left: one that ended before is undone."""
    root, seconds = every_stage
    out = root / "disturbed"
    rng = np.random.default_rng(KILLS)
    every = stages(root, out, out)
    # In the stages' order, each as often as any other, and each finished before the next begins.
    chosen = rng.integers(0, len(every), KILLS)
    for number, (name, arguments) in enumerate(every.items()):
        kills, whole = np.count_nonzero(chosen == number), seconds[name]
        while kills:
            begin, is_first = time.monotonic(), not (out / folder_of(name)).exists()
            # Later than the interpreter needs to start, most of the time.
            if is_killed(arguments, rng.uniform(0.3, 1) * whole, rng):
                kills -= 1
                continue
            if is_first:  # the reference's time may be that of code that was yet to be compiled
                whole = min(whole, time.monotonic() - begin)
            shutil.rmtree(out / folder_of(name))
        finish(arguments)
    expected, found = settled(root / "reference"), settled(out)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(out.rglob(".tmp/*"))
    shutil.rmtree(out)
