"""Give each weight its learning rate and its decay, and make the optimiser.

The factors are those of tsn-pytorch (Wang et al., ECCV 2016): a larger rate for a first convolution
that was made from RGB's, twice the rate and no decay for biases, no decay for normalisations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.models.names import State
from flowpipe.models.stream import StreamNetwork
from flowpipe.training.optimisation import Training

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def make_optimizer(network: StreamNetwork, parameters: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a network's weights."""
    groups = parameter_groups(network, parameters)
    return torch.optim.SGD(groups, lr=parameters.lr, momentum=parameters.momentum)


def parameter_groups(network: StreamNetwork, parameters: Training) -> list[dict[str, Any]]:
    """Return the weights with their factors on the learning rate (``times``) and their decay.

    The first convolution's weight has the factor ``conv1_lr`` and its bias twice that, other
    weights 1 and biases 2. Biases and normalisations have no decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            if not weight.requires_grad:
                continue
            is_norm = isinstance(module, _NORMS)
            times = parameters.conv1_lr if module is network.first else 1.0
            if name == "bias" and not is_norm:
                times *= 2
            decay = 0.0 if is_norm or name == "bias" else parameters.weight_decay
            groups.setdefault((times, decay), []).append(weight)
    return [
        {"params": weights, "times": times, "weight_decay": decay, "lr": parameters.lr * times}
        for (times, decay), weights in groups.items()
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step; each group multiplies it by its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> State:
    """Return what the optimiser knows of each weight, such as ``momentum_buffer/last.bias``."""
    return {
        f"{key}/{name}": value
        for name, weight in network.named_parameters()
        for key, value in optimizer.state.get(weight, {}).items()
        if value is not None
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, network: nn.Module, state: State
) -> None:
    """Set what :func:`optimizer_state` returned.

    Raises
    ------
    KeyError, ValueError
        It is not of this network.
    """
    weights = dict(network.named_parameters())
    for full, value in state.items():
        key, _, name = full.partition("/")
        weight = weights[name]
        optimizer.state[weight][key] = _placed_as(weight, value, full)


def _placed_as(weight: Tensor, value: Tensor, name: str) -> Tensor:
    """Return a value on the device and in the memory format of its weight; a counter as it is."""
    if value.ndim == 0:
        return value
    if value.shape != weight.shape:
        raise ValueError(f"{name} is {tuple(value.shape)}, its weight {tuple(weight.shape)}")
    return torch.empty_like(weight, requires_grad=False).copy_(value)
