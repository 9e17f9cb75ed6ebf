"""Choose how many bits a network computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast, get_args

import torch

from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json
from flowpipe.training.optimisation import Precision


def autocast(device: torch.device, amp: Precision = "auto") -> AbstractContextManager[Any]:
    """Return the context in which a network computes.

    Parameters
    ----------
    device
        Of the network.
    amp
        ``auto``: bfloat16, whose range needs no scaling of gradients, where a GPU has it in
        hardware, and float32 elsewhere; or one of ``float32``, ``bfloat16``, ``float16``.

    Raises
    ------
    ParameterError
        float16 is asked for on a device other than a GPU.
    """
    if amp == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        amp = "bfloat16" if supported else "float32"
    if amp == "float32":
        return nullcontext()
    if amp == "float16" and device.type != "cuda":
        raise ParameterError(
            f"amp is 'float16', which takes a GPU; the device is {str(device)!r}: take bfloat16 or "
            "float32"
        )
    return torch.autocast(device.type, dtype=getattr(torch, amp))


def trained_with(about: Json, device: torch.device) -> Precision:
    """Return the precision in which a network was trained, so that it is tested in the same.

    Parameters
    ----------
    about
        What :func:`flowpipe.models.weights.load_model` returns beside the network.
    device
        Where it is tested; float32 takes the place of float16 on other devices than GPUs.
    """
    try:
        amp = about["stream"]["training"]["amp"]
    except (KeyError, TypeError):  # a network that was not trained by flowpipe
        return "auto"
    if amp == "float16" and device.type != "cuda":
        return "float32"
    return cast(Precision, amp) if amp in get_args(Precision) else "auto"


def grad_scaler(device: torch.device, amp: Precision) -> torch.amp.GradScaler:
    """Return what scales the loss so that no gradient in float16 is 0; else it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=amp == "float16")
