"""A small run of every stage, for tests of what disturbs it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from tests.helpers.clips import command, contents, environment

_NETWORK = (
    "--backbone",
    "shufflenet_v2_x0_5",
    "--input-size",
    32,
    "--epochs",
    1,
    "--batch-size",
    4,
)
_TESTING = (
    "--split",
    "split1",
    "--test-clips",
    2,
    "--crops",
    1,
    "--loader-workers",
    0,
    "--device",
    "cpu",
)
_TRAINING = ("--preset", "small", *_NETWORK, "--loader-workers", 0, "--device", "cpu")


def stages(root: Path, out: Path, made: Path, jobs: int = 2) -> dict[str, tuple[object, ...]]:
    """A command line for each stage, in the order in which they need each other.

    Parameters
    ----------
    root
        Where :func:`everything` has been called.
    out
        Where outputs go.
    made
        Where what a stage needs lies: `out`, or the reference.
    jobs
        Workers of the stages that map over clips.
    """
    videos, flow, tables = root / "videos", made / "flow", made / "trajectories"
    several, one = ("--jobs", jobs), ("--jobs", min(jobs, 1))
    extract = ("extract-flow", videos, "--native", "--tvl1.iterations", 40, *several)
    streams = ("--modality", "flow", "--checkpoint-every", 1, "--split", "split1")
    few = ("--gaussians", 4, "--rows", 500, "--descriptors", "hof", "mbhx")
    return {
        "flow": (*extract, "--frames", "--out", out / "flow"),
        "flow in folders": (*extract, "--layout", "tsfusion", "--frames", "--out", out / "folders"),
        "trajectories": (
            "extract-trajectories",
            videos,
            "--out",
            out / "trajectories",
            "--text",
            *several,
        ),
        "warped flow": ("warp-flow", flow, out / "warped", *several),
        "stacks": ("export-stacks", flow, out / "stacks", "--format", "tar", *several),
        "another layout": ("export-flow", flow, out / "h5", "--layout", "h5", *several),
        "vectors": ("encode", videos, tables, "--out", out / "vectors", *few, *one),
        "scores": ("classify", made / "vectors", "--out", out / "scores", *one),
        "network": ("train", videos, flow, "--out", out / "net", *streams, *_TRAINING),
        "tests": ("evaluate", made / "net", videos, flow, "--out", out / "tests", *_TESTING),
        "labels": (
            "predict",
            made / "scores/classifiers/01-split1",
            videos,
            "--cache",
            out / "labels",
            "--out",
            out / "labels/labels.csv",
            *("--format", "csv", *several),
        ),
        "features": (
            "features",
            flow,
            "--classifier",
            made / "net",
            "--out",
            out / "features",
            *("--stride", 2, "--device", "cpu", *several),
        ),
        "maps": (
            "features",
            flow,
            "--classifier",
            made / "net",
            "--out",
            out / "maps",
            *("--maps", "stage4", "--device", "cpu", *several),
        ),
        "heads": (
            "probe",
            videos,
            made / "maps",
            "--out",
            out / "heads",
            *("--head", "attention", "--width", 16, "--epochs", 3, "--checkpoint-every", 1),
            *("--split", "split1", "--device", "cpu"),
        ),
    }


def start(arguments: tuple[object, ...]) -> subprocess.Popen:
    return subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(arguments: tuple[object, ...]) -> None:
    process = start(arguments)
    told = process.communicate(timeout=600)[0]
    assert process.returncode == 0, told


def settled(folder: Path) -> dict[str, str]:
    """SHA-256 of what is stored, without what says when, where or how long."""
    said = {"times.json", "metrics.json", "report.html", "curves.png", "log.csv"}
    return {
        name: digest
        for name, digest in contents(folder).items()
        if name.rpartition("/")[2] not in said
    }


def everything(root: Path) -> dict[str, float]:
    """Make videos, and all of it in ``reference``; return the seconds that each stage took."""
    small = Synthetic(n_groups=2, clips_per_group=1, width=80, height=64, n_frames=18)
    write_synthetic(root / "videos", small)
    out = root / "reference"
    seconds = {}
    for name, arguments in stages(root, out, out).items():
        begin = time.monotonic()
        finish(arguments)
        seconds[name] = time.monotonic() - begin
    return seconds
