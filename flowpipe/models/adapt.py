"""Take the last layer off a network, and give its first one another number of channels."""

from __future__ import annotations

from torch import nn


def take_last_layer(backbone: nn.Module) -> tuple[str, int]:
    """Remove the last layer and the dropout before it; return its name and its features."""
    name, layer = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ][-1]
    parent_name, _, child = name.rpartition(".")
    parent = backbone.get_submodule(parent_name)
    setattr(parent, child, nn.Identity())
    if isinstance(parent, nn.Sequential) and child.isdecimal():
        before = int(child) - 1
        if before >= 0 and isinstance(parent[before], nn.Dropout):
            parent[before] = nn.Identity()
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def remove_layer(backbone: nn.Module, name: str) -> None:
    """Put the identity in the place of a layer, if there is one of that name."""
    parent, _, child = name.rpartition(".")
    owner = backbone.get_submodule(parent)
    if child in owner._modules:
        setattr(owner, child, nn.Identity())


def adapt_first_convolution(backbone: nn.Module, channels: int) -> str:
    """Give the first convolution, 2-D or 3-D, another number of channels; return its name."""
    name, first = next(
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    )
    if first.in_channels == channels:
        return name
    made = type(first)(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    parent, _, child = name.rpartition(".")
    setattr(backbone.get_submodule(parent), child, made)
    return name
