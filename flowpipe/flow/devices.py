"""The devices of torch that solvers can use: their names, and the choice among several."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass

from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator of this machine.

    Attributes
    ----------
    name
        torch's name, such as ``cuda:0``.
    model
        What its driver calls it.
    memory
        Size of its memory in bytes, 0 if it is the machine's own.
    """

    name: str
    model: str
    memory: int


def accelerators() -> list[Device]:
    """Return the accelerators that torch sees; none without torch."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        return []
    if kind.type == "mps":
        return [Device("mps", "Apple GPU", 0)]
    module = torch.get_device_module(kind)
    found = []
    for index in range(torch.accelerator.device_count()):
        properties = module.get_device_properties(index)
        found.append(Device(f"{kind.type}:{index}", properties.name, properties.total_memory))
    return found


def first_device() -> str:
    """Return the torch device that is used unless another is named: an accelerator, or the CPU."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type


def as_devices(text: str, backend: str) -> tuple[str, ...]:
    """Return the names of the devices that a solver is to use.

    Parameters
    ----------
    text
        ``all``, or names of torch devices with commas between them, such as ``cuda:0,cuda:2``.
    backend
        The solver: ``cuda`` or ``torch``.

    Raises
    ------
    ParameterError
        The solver does not compute on a torch device, or a device is not here or named twice.
    """
    if backend not in ("cuda", "torch"):
        raise ParameterError(
            f"device is {text!r}, but the solver is {backend}; devices are for --backend cuda and "
            "torch (the number of processes on the CPU is --jobs)"
        )
    if text == "all":
        # Where torch sees no accelerator, its solver computes on the CPU.
        names = tuple(device.name for device in accelerators()) or ("cpu",)
    else:
        names = tuple(name.strip() for name in text.split(","))
    known: set[tuple[str, int]] = set()
    for name in names:
        if reason := why_no_device(name, backend):
            raise ParameterError(f"device is {text!r}: {reason}")
        if (device := _identity(name)) in known:
            raise ParameterError(f"device is {text!r}; it names {name} twice")
        known.add(device)
    return names


def _identity(name: str) -> tuple[str, int]:
    """Return the kind and number of a device, which is the current one where it has none."""
    import torch

    device = torch.device(name)
    if device.index is not None:
        return device.type, device.index
    return device.type, torch.cuda.current_device() if device.type == "cuda" else 0


def why_no_device(name: str, backend: str) -> str | None:
    """Return the reason if a solver cannot use a device, else None."""
    import torch

    try:
        device = torch.device(name)
        if device.type == "meta":
            return "meta has no values to compute with"
        if backend == "cuda" and device.type != "cuda":
            return f"the solver cuda computes on CUDA devices, such as cuda:0, not on {name}"
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ", ".join(each.name for each in accelerators()) or "no accelerator"
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"{name!r} cannot be used ({message}); this machine has {here}"
    return None


def out_of_memory() -> tuple[type[BaseException], ...]:
    """Return what a device raises when a batch is too large for it."""
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.OutOfMemoryError,)
