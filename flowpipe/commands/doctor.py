"""``doctor``: what this machine can compute flow with, and how to get what it cannot."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import av
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowpipe import __version__
from flowpipe.encoding.table import ENCODERS
from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import solvers
from flowpipe.flow.extract import Method
from flowpipe.runner.pool import default_jobs

_PACKAGES = ("opencv-contrib-python", "av", "numba", "numpy", "torch", "torchvision")


@dataclass(frozen=True, slots=True)
class Finding:
    """One solver on this machine; ``reason`` is None where it runs."""

    backend: str
    method: str
    reason: str | None


def findings() -> Iterator[Finding]:
    """Every solver, and why it cannot run here if it cannot."""
    for backend in solvers.BACKENDS:
        for method in get_args(Method):
            if method in solvers.methods(backend):
                yield Finding(backend, method, solvers.why_unavailable(backend, method))


def versions() -> Iterator[tuple[str, str]]:
    """Name and version of what flowpipe stands on."""
    yield "flowpipe", __version__
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "FFmpeg (libavcodec)", ".".join(map(str, av.library_versions["libavcodec"]))
    yield "processors", str(default_jobs())


def report(console: Console) -> None:
    """Print versions, and a table of solvers."""
    table = Table("", "version", box=None, pad_edge=False)
    for name, version in versions():
        table.add_row(name, version)
    console.print(table)
    console.print()
    table = Table("backend", "method", "here", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for finding in findings():
        state = Text("yes", "green") if finding.reason is None else Text(f"no: {finding.reason}")
        table.add_row(finding.backend, finding.method, state)
    console.print(table)
    console.print()
    for method in get_args(Method):
        try:
            chosen = f"--backend auto takes {solvers.choose('auto', method)}"
        except BackendUnavailableError:
            chosen = "nothing here computes it"
        console.print(f"{method}: {chosen}", highlight=False)
    console.print()
    table = Table("encoding", "", "published in", box=None, pad_edge=False)
    for name, encoder in ENCODERS.items():
        table.add_row(name, encoder.title, encoder.paper)
    console.print(table)
