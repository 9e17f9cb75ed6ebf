"""Video networks of torchvision, with the interface of the others."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from flowpipe.models.flat_conv import flatten_convolutions


class TorchvisionVideo(nn.Module):
    """Give a video network of torchvision the interface of the others.

    Parameters
    ----------
    name
        Its name in torchvision.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = torchvision.models.get_model(name, weights=None)
        flatten_convolutions(self.net)
        self.head_name = [
            name
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv3d)
        ][-1]
        layer = self.get_submodule(self.head_name)
        self.n_features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        parent, _, child = self.head_name.rpartition(".")
        setattr(self.get_submodule(parent), child, nn.Identity())

    def features(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, 1, F)."""
        features: Tensor = self.net(clips)
        return features.flatten(2).mean(dim=2)[:, None] if features.ndim > 2 else features[:, None]


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network of torchvision under the names here."""
    if any(name.startswith("net.") for name in state):
        return state
    return {f"net.{name}": value for name, value in state.items()}
