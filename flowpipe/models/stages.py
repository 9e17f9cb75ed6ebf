"""Divide a network into its stages, with what each puts out and costs, without computing.

A stage is a module with few layers, or a run of equal blocks: ``layer2``, 4 x Bottleneck. Stages
are found by running the network on shapes, so that they are those of the module itself.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.cost import run_on_shapes
from flowpipe.models.network import Network

_LAYERS_OF_A_STAGE = 12
"""Most layers with weights that a module has which is a stage; what has more is divided, unless it
is a sequence of equal blocks."""

_OF_A_STAGE = re.compile(r"(inception_\d[a-z]|(?:conv|res)\d[a-z]?|pathway\d)_")
"""Beginning of the names of layers of Inception, ECO and SlowFast that belong to one stage."""

_WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LSTM, nn.MultiheadAttention)


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold a stage of a network.

    Attributes
    ----------
    name
        Its name in the network, such as ``layer2``.
    kind
        Class of its module; with several equal blocks, their number and class: ``4 x Bottleneck``.
    shape
        Of what it puts out for one clip: T, C, H, W of a 2-D network; C, T, H, W of a 3-D one;
        tokens and their size of a transformer.
    parameters
        Number of its weights.
    multiply_adds
        Multiplications with an addition for one clip.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def network_stages(network: Network, clip: ClipInput, n_classes: int = 400) -> list[Stage]:
    """Return the stages of a network in the order in which they are computed.

    Parameters
    ----------
    network, clip
        Parts of the network, and what it sees.
    n_classes
        Number of classes.

    Returns
    -------
    list of Stage
        Stages without weights are left out.

    Raises
    ------
    ParameterError
        The network cannot take such clips.

    Examples
    --------
    >>> clip = ClipInput("rgb", segments=3, length=1)
    >>> for stage in network_stages(Network(backbone="resnet18"), clip, 101):
    ...     print(stage.name, stage.kind, stage.shape)
    backbone.conv1 Conv2d (3, 64, 112, 112)
    backbone.layer1 2 x BasicBlock (3, 64, 56, 56)
    backbone.layer2 2 x BasicBlock (3, 128, 28, 28)
    backbone.layer3 2 x BasicBlock (3, 256, 14, 14)
    backbone.layer4 2 x BasicBlock (3, 512, 7, 7)
    last Linear (3, 101)
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(built: nn.Module) -> None:
        for name, module in built.named_modules():
            module.register_forward_hook(_note(shapes, name))

    ran = run_on_shapes(network, clip, n_classes, watch)
    modules = dict(ran.network.named_modules())
    counts = ran.counter.get_flop_counts()
    root = type(ran.network).__name__
    parts = set(_stages(ran.network, "", shapes))
    stages = [
        Stage(
            name,
            _kind(modules[name]),
            shape,
            sum(weight.numel() for weight in modules[name].parameters()),
            sum(counts.get(f"{root}.{name}", {}).values()) // 2,
        )
        for name, shape in shapes.items()
        if name in parts
    ]
    return list(_merged(stages))


def _stages(module: nn.Module, prefix: str, called: Container[str]) -> Iterator[str]:
    """Yield the names of the modules that are one stage each, or part of one."""
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        layers = sum(isinstance(each, _WITH_WEIGHTS) for each in child.modules())
        is_part = not prefix and layers > 1  # the backbone, the head
        of_one_class = isinstance(child, nn.Sequential) and len({type(c) for c in child}) == 1
        many = layers > _LAYERS_OF_A_STAGE and not of_one_class
        # A network may call the layers of a part by themselves.
        if is_part or many or full not in called:
            yield from _stages(child, f"{full}.", called)
        elif layers:
            yield full


def _note(shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    """Return a hook that keeps the shape of what a module puts out."""

    def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
        while not isinstance(output, Tensor):
            output = next(iter(output.values() if isinstance(output, dict) else output))
        # A clip is a batch of one, and of all its segments where they are folded into the batch.
        shape = tuple(output.shape)
        shapes[name] = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape

    return hook


def _kind(module: nn.Module) -> str:
    """Return the class of a module, or the number and class of the blocks of a sequence."""
    children = list(module.children())
    classes = {type(child).__name__ for child in children}
    if isinstance(module, nn.Sequential) and children:
        if len(classes) == 1:
            return f"{len(children)} x {classes.pop()}" if len(children) > 1 else classes.pop()
        return " + ".join(
            type(child).__name__
            for child in children
            if any(isinstance(each, _WITH_WEIGHTS) for each in child.modules())
        )
    return type(module).__name__


def _merged(stages: list[Stage]) -> Iterator[Stage]:
    """Yield the stages, with the parts of one made into one."""
    groups: dict[tuple[str, str, int], list[Stage]] = {}
    run, before = 0, ""
    for part in stages:
        name, kind = _stage_of(part)
        # Blocks of a sequence are one stage as long as they are equal.
        run += bool(kind) and kind != before
        groups.setdefault((name, kind, run if kind else 0), []).append(part)
        before = kind
    for (name, _, _), parts in groups.items():
        kinds = {part.kind for part in parts}
        kind = kinds.pop() if len(kinds) == 1 else "layers"
        yield replace(
            parts[-1],
            name=name if len(parts) > 1 else parts[0].name,
            kind=f"{len(parts)} x {kind}" if len(parts) > 1 else kind,
            parameters=sum(part.parameters for part in parts),
            multiply_adds=sum(part.multiply_adds for part in parts),
        )


def _stage_of(part: Stage) -> tuple[str, str]:
    """Return the name of the stage of a part, and the class of its blocks if they must be equal."""
    parent, _, last = part.name.rpartition(".")
    if last.isdecimal():
        return parent, part.kind
    found = _OF_A_STAGE.match(last)
    return (f"{parent}.{found[1]}" if found else part.name), ""
