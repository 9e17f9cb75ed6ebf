"""Choose how many bits a network computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Half the bits where the device has bfloat16 of its own, whose range needs no loss scaling."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
