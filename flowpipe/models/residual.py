"""Skip residual blocks at random in training.

G. Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016: the probability grows linearly
from the first block to the last. Blocks keep their names and weights: what drops a block stands
beside its layers, and has no weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torchvision.models import mobilenetv2, mobilenetv3, regnet, resnet
from torchvision.models.video import resnet as video_resnet
from torchvision.ops import StochasticDepth

from flowpipe.errors import ParameterError
from flowpipe.models import resnet3d
from flowpipe.models.tdn import DifferenceBlock
from flowpipe.models.tea import TeaBlock
from flowpipe.models.temporal import Temporal
from flowpipe.models.transformer import drop_rates


class SkipClips(Temporal):
    """Skip the branch of a residual block for some of the clips, in training.

    Parameters
    ----------
    probability
        With which a clip skips it.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.drop = StochasticDepth(probability, "row")

    def forward(self, maps: Tensor) -> Tensor:
        """(B K, ...) -> the same, 0 for the skipped clips and larger for the others."""
        if not self.training:
            return maps
        dropped: Tensor = self.drop(self.clips(maps)).flatten(0, 1)
        return dropped

    def after(self, module: nn.Module, inputs: object, maps: Tensor) -> Tensor:
        """Skip what a module returns."""
        skipped: Tensor = self(maps)
        return skipped


def set_stochastic_depth(network: nn.Module, highest: float) -> None:
    """Skip the residual blocks of a network at random in training.

    Parameters
    ----------
    network
        A residual network, or one that skips blocks already, as transformers do.
    highest
        Probability of skipping the last block.

    Raises
    ------
    ParameterError
        The network has no residual blocks of a known kind.
    """
    own = [each for each in network.modules() if isinstance(each, StochasticDepth)]
    if own:
        for module, rate in zip(own, drop_rates(highest, len(own)), strict=True):
            module.p = rate
        return
    branches = list(_branches(network))
    if not branches:
        raise ParameterError(
            f"stochastic_depth is {highest}; {type(network).__name__} has no residual blocks to "
            "skip"
        )
    for (block, branch), rate in zip(branches, drop_rates(highest, len(branches)), strict=True):
        skip = SkipClips(rate).train(block.training)
        block.add_module("skip_clips", skip)
        branch.register_forward_hook(skip.after)


def _branches(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each residual block with the module whose output is added to the shortcut."""
    for block in network.modules():
        match block:
            case resnet.BasicBlock():
                yield block, block.bn2
            case resnet.Bottleneck() | TeaBlock() | DifferenceBlock():
                yield block, block.bn3
            case mobilenetv2.InvertedResidual() if block.use_res_connect:
                yield block, block.conv
            case mobilenetv3.InvertedResidual() if block.use_res_connect:
                yield block, block.block
            case regnet.ResBottleneckBlock():
                yield block, block.f
            case video_resnet.BasicBlock():
                yield block, block.conv2
            case resnet3d.Block():
                yield block, block.branch2
