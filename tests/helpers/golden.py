"""Outputs of released networks, for tests."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import Tensor, nn

from tests.helpers.clips import shared


class Golden:
    """A file of weights, inputs and outputs of a released network."""

    def __init__(self, name: str) -> None:
        path = shared() / "golden/networks" / f"{name}.npz"
        with np.load(path) as file:
            self.arrays = {key: file[key] for key in file.files}
        self.meta = json.loads(str(self.arrays["meta"]))

    @property
    def state(self) -> dict[str, Tensor]:
        """Weights by the names of the release."""
        found = {k: v for k, v in self.arrays.items() if k.startswith("state/")}
        return {k.removeprefix("state/"): torch.from_numpy(v) for k, v in found.items()}

    def input(self, name: str = "x") -> Tensor:
        """Return an input; of the small ones every pixel stands for 8 x 8."""
        value = torch.from_numpy(self.arrays[f"in/{name}"])
        if name.endswith("_small"):
            value = value.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
        return value

    def output(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"out/{name}"])

    def outputs(self) -> dict[str, Tensor]:
        found = {k: v for k, v in self.arrays.items() if k.startswith("out/")}
        return {k.removeprefix("out/"): torch.from_numpy(v) for k, v in found.items()}


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare within a tolerance, relative to the largest magnitude where that is above 1."""
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
