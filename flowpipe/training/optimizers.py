"""Give each weight its learning rate and its decay, and make the optimiser.

The factors are those of tsn-pytorch (Wang et al., ECCV 2016): a larger rate for a first convolution
that was made from RGB's, twice the rate and no decay for biases, no decay for normalisations. On
top of these, new layers and the others can have factors of their own, as for fine-tuning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.names import State
from flowpipe.models.residual import set_stochastic_depth
from flowpipe.models.trainable import Trainable
from flowpipe.training.optimisation import Training
from flowpipe.training.regularise import trained_norms

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def make_optimizer(network: Trainable, parameters: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a network's weights."""
    groups = parameter_groups(network, parameters)
    if parameters.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=parameters.lr, betas=(parameters.momentum, 0.999))
    return torch.optim.SGD(groups, lr=parameters.lr, momentum=parameters.momentum)


def prepare(network: Trainable, parameters: Training) -> None:
    """Freeze layers and skip residual blocks as the options of a training ask for.

    Raises
    ------
    ParameterError
        An option does not apply to the network.
    """
    if len(network.classes) != 1:
        for name in ("label_smoothing", "mixup"):
            if getattr(parameters, name):
                raise ParameterError(
                    f"{name} is {getattr(parameters, name)}; it applies to networks of one data "
                    f"set, and this one has {len(network.classes)}"
                    if network.classes
                    else f"{name} is {getattr(parameters, name)}; it applies to networks that "
                    "learn from labels"
                )
    if parameters.balanced_batches and not network.classes:
        raise ParameterError(
            "balanced_batches is True; it applies to networks that learn from labels"
        )
    if parameters.precise_bn and not trained_norms(network):
        raise ParameterError(
            f"precise_bn is {parameters.precise_bn}; it applies to networks with batch "
            f"normalisations that are trained, and {network.title} has none"
        )
    if parameters.stochastic_depth is not None:
        if not network.streams:
            raise ParameterError(
                f"stochastic_depth is {parameters.stochastic_depth}; it applies to networks with "
                f"residual blocks, and {network.title} has none"
            )
        for stream in network.streams.values():
            set_stochastic_depth(stream, parameters.stochastic_depth)
    if parameters.backbone_rate == 0:
        new = network.new_layers()
        for name, weight in network.named_parameters():
            if name not in new:
                weight.requires_grad_(False)


def parameter_groups(network: Trainable, parameters: Training) -> list[dict[str, Any]]:
    """Return the weights with their factors on the learning rate (``times``) and their decay.

    The first convolution's weight has the factor ``conv1_lr``, other weights 1, and with sgd a bias
    twice that of its layer's weight. New layers also have the factor ``head_rate``, others
    ``backbone_rate``. Biases and normalisations have no decay.
    """
    new = network.new_layers()
    bias = 2.0 if parameters.optimizer == "sgd" else 1.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for prefix, module in network.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            if not weight.requires_grad:
                continue
            is_norm = isinstance(module, _NORMS)
            full = f"{prefix}.{name}" if prefix else name
            times = parameters.head_rate if full in new else parameters.backbone_rate
            if module is network.first:
                times *= parameters.conv1_lr
            if name == "bias" and not is_norm:
                times *= bias
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
