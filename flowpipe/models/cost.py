"""Count the parameters and multiply-adds of networks, and check what they take, without computing.

Networks are built on torch's device ``meta``, where tensors have shapes and no values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network takes.

    Attributes
    ----------
    shape
        Of a clip: C, T, H, W; C of both inputs together, where there are two.
    parameters
        Number of weights.
    multiply_adds
        Multiplications with an addition for a clip.
    """

    shape: tuple[int, int, int, int]
    parameters: int
    multiply_adds: int


def network_cost(network: Network, clip: ClipInput, n_classes: int = 400) -> Cost:
    """Return what a network takes for a clip.

    Parameters
    ----------
    network, clip
        Parts of the network, and what it sees.
    n_classes
        Number of classes.

    Raises
    ------
    ParameterError
        The network cannot take such clips.

    Examples
    --------
    >>> cost = network_cost(Network(backbone="mobilenet_v2"), ClipInput("rgb", 8, 1), 400)
    >>> f"{cost.parameters / 1e6:.2f} million, {cost.multiply_adds / 1e9:.2f} billion"
    '2.74 million, 2.40 billion'
    """
    shapes = run_on_shapes(network, clip, n_classes)
    _, _, frames, height, width = shapes.inputs[-1].shape
    parameters = sum(weight.numel() for weight in shapes.network.parameters())
    shape = (sum(each.shape[1] for each in shapes.inputs), frames, height, width)
    return Cost(shape, parameters, shapes.counter.get_total_flops() // 2)


@dataclass(frozen=True, slots=True)
class RunOnShapes:
    """What is left of running a network on shapes: it, its inputs, and counted operations."""

    network: StreamNetwork
    inputs: list[Tensor]
    counter: FlopCounterMode


def run_on_shapes(
    network: Network,
    clip: ClipInput,
    n_classes: int,
    watch: Callable[[StreamNetwork], None] = lambda network: None,
) -> RunOnShapes:
    """Build a network for a clip and run it, without values.

    Parameters
    ----------
    network, clip, n_classes
        As for :func:`network_cost`.
    watch
        Called with the network before it runs.

    Raises
    ------
    ParameterError
        The network cannot take such clips.
    """
    try:
        with torch.device("meta"):
            built = StreamNetwork(network, clip, [n_classes]).to("meta").eval()
            watch(built)
            snippets = torch.empty(
                1, clip.segments, clip.channels, clip.input_size, clip.input_size
            )
            clips = built.clips(snippets)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                built(clips)
    except FlowpipeError:
        raise
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        its = table.model(network.model).suited(clip)
        raise ParameterError(
            f"{network.model} cannot take {clip.modality} clips with segments={clip.segments}, "
            f"length={clip.length} and input_size={clip.input_size} ({reason}); its authors have "
            f"segments={its.segments}, length={its.length} and input_size={its.input_size}"
        ) from None
    inputs = [clips] if isinstance(clips, Tensor) else list(clips.values())
    return RunOnShapes(built, inputs, counter)


def check_input(network: Network, clip: ClipInput) -> None:
    """Check that a network takes clips of a number of channels and frames, and of a size.

    Raises
    ------
    ParameterError
        It does not.
    """
    network_cost(network, clip)
