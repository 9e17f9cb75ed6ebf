"""Report what runs on this machine, and what the tables of flowpipe offer."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

import av
import cv2
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from flowpipe import __version__
from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import METHODS, solvers
from flowpipe.flow.devices import accelerators
from flowpipe.runner.pool import default_jobs

_PACKAGES = ("opencv-contrib-python", "av", "numba", "numpy", "torch", "torchvision")

TABLES = {
    "method": ("flowpipe.flow", "METHODS"),
    "flow layout": ("flowpipe.flow.store.layouts", "LAYOUTS"),
    "data set": ("flowpipe.datasets.table", "DATASETS"),
    "interval set": ("flowpipe.datasets.intervals", "INTERVAL_SETS"),
    "encoder": ("flowpipe.encoding", "ENCODERS"),
    "model": ("flowpipe.models", "MODELS"),
    "probe": ("flowpipe.models.probes", "PROBES"),
    "feature layout": ("flowpipe.training.features.layouts", "LAYOUTS"),
}
"""Modules and names of the tables that are listed, by the title of their list."""


@dataclass(frozen=True, slots=True)
class Finding:
    """State of a solver on this machine; ``reason`` is None if it runs."""

    backend: str
    method: str
    reason: str | None


def findings() -> Iterator[Finding]:
    """Yield every solver, with the reason if it cannot run here."""
    for backend in solvers.BACKENDS:
        for method in METHODS:
            if method in solvers.methods(backend):
                yield Finding(backend, method, solvers.why_unavailable(backend, method))


def versions() -> Iterator[tuple[str, str]]:
    """Yield names and versions of the packages that flowpipe uses."""
    yield "flowpipe", __version__
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "FFmpeg (libavcodec)", ".".join(map(str, av.library_versions["libavcodec"]))


def devices() -> Iterator[tuple[str, str]]:
    """Yield the devices that networks and solvers can use."""
    yield "cpu", f"{default_jobs()} cores"
    found = accelerators()
    for device in found:
        memory = f", {decimal(device.memory)}" if device.memory else ""
        yield device.name, f"{device.model}{memory}"
    if not found:
        reason = solvers.why_unavailable("cuda", "tvl1")
        yield "GPU", f"none: {reason or 'torch sees no accelerator'}"
    if cv2.ocl.haveOpenCL():
        yield "OpenCL", cv2.ocl.Device.getDefault().name()


def listing(module: str, table: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, title and publication of each entry of a table."""
    entries = getattr(import_module(module), table)
    for name, entry in entries.items():
        yield name, entry.title, entry.published


def report(console: Console) -> None:
    """Print versions, devices, solvers and tables."""
    for title, rows in (("version", versions()), ("device", devices())):
        _print(console, ("", title), rows)
    table = Table("backend", "method", "here", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for finding in findings():
        state = Text("yes", "green") if finding.reason is None else Text(f"no: {finding.reason}")
        table.add_row(finding.backend, finding.method, state)
    console.print(table)
    console.print()
    for method in METHODS:
        try:
            chosen = f"--backend auto chooses {solvers.choose('auto', method)}"
        except BackendUnavailableError:
            chosen = "no solver runs here"
        console.print(f"{method}: {chosen}", highlight=False)
    console.print()
    for title, (module, table_name) in TABLES.items():
        _print(console, (title, "", "published in"), listing(module, table_name))


def _print(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    console.print()
