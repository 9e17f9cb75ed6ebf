"""3-D residual networks with one or two pathways: C2D, I3D-ResNet, Slow, SlowFast, non-local.

C. Feichtenhofer, H. Fan, J. Malik, K. He, "SlowFast Networks for Video Recognition", ICCV 2019; X.
Wang et al., "Non-local Neural Networks", CVPR 2018 (C2D, I3D-ResNet, non-local). All are bottleneck
ResNets that differ in the temporal extent of the first convolution of each block. The layers have
the names of the release of SlowFast's authors, so that its weights load directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.flat_conv import FlatConv3d
from flowpipe.models.non_local import NonLocal
from flowpipe.models.resnet3d_names import from_images, own_names

__all__ = ["BLOCKS", "Architecture", "ResNet3D", "own_names", "slow_frames"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True, slots=True)
class Pathway:
    """Temporal extents of the convolutions of a pathway."""

    stem: int
    """Extent of the first convolution, in frames."""
    stages: tuple[tuple[int, ...], ...]
    """Per stage the extents of its blocks, repeated to the number of blocks."""


C2D = Pathway(1, ((1,), (1,), (1,), (1,)))
I3D = Pathway(5, ((3,), (3, 1), (3, 1), (1, 3)))
SLOW = Pathway(1, ((1,), (1,), (3,), (3,)))
FAST = Pathway(5, ((3,), (3,), (3,), (3,)))


@dataclass(frozen=True, slots=True)
class Architecture:
    """Parts of a 3-D residual network."""

    pathways: tuple[Pathway, ...]
    """One pathway, or the slow and the fast one."""
    depth: int = 50
    """Number of layers: 50 or 101."""
    temporal_pool: bool = False
    """Halve the number of time steps after the second stage."""
    non_local: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Blocks, by the number of their stage, that a non-local block follows; both from 0."""
    alpha: int = 4
    """Frames of the fast pathway per frame of the slow one."""
    fast_width: float = 1 / 8
    """Channels of the fast pathway, as a fraction of those of the slow one."""
    fusion_kernel: int = 7
    """Extent of the lateral connections, in frames of the fast pathway."""


C2D_R50 = Architecture((C2D,), temporal_pool=True)
I3D_R50 = Architecture((I3D,), temporal_pool=True)
I3D_R50_NON_LOCAL = Architecture((I3D,), temporal_pool=True, non_local={1: (1, 3), 2: (1, 3, 5)})
SLOW_R50 = Architecture((SLOW,))
SLOWFAST_R50_8X8 = Architecture((SLOW, FAST))
SLOWFAST_R50_4X16 = Architecture((SLOW, FAST), alpha=8, fusion_kernel=5)


class ResNet3D(nn.Module):
    """Score clips with a 3-D residual network.

    Parameters
    ----------
    architecture
        Parts of the network.
    channels
        Channels of the input, or of the slow and the fast pathway's.
    classes
        Number of classes.
    dropout
        Probability with which a feature is dropped before the last layer.
    width
        Channels of the first convolution; 64 is the papers'.

    Raises
    ------
    ParameterError
        A parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> network = ResNet3D(SLOW_R50, channels=2, classes=5, width=8).eval()
    >>> network(torch.zeros(1, 2, 4, 32, 32)).shape
    torch.Size([1, 5])
    """

    head_name = "head.projection"
    """The last layer."""

    from_images = staticmethod(from_images)
    """Return the weights of torchvision's ResNet under the names here, as they are."""

    def __init__(
        self,
        architecture: Architecture,
        channels: int | tuple[int, int] = 3,
        classes: int = 400,
        *,
        dropout: float = 0.5,
        width: int = 64,
    ) -> None:
        super().__init__()
        pathways = architecture.pathways
        if architecture.depth not in BLOCKS:
            raise ParameterError(f"depth is {architecture.depth}; it must be 50 or 101")
        inputs = [channels] * len(pathways) if isinstance(channels, int) else list(channels)
        if len(inputs) != len(pathways) or min(inputs) < 1 or classes < 1:
            raise ParameterError(
                f"channels is {channels} and classes {classes}; there must be a positive number of "
                f"classes and of channels for each of {len(pathways)} pathways"
            )
        self.architecture = architecture
        self.first_channels = inputs[0]
        widths = [width, max(1, round(width * architecture.fast_width))][: len(pathways)]
        self.s1 = Stem(inputs, widths, [pathway.stem for pathway in pathways])
        lateral = self._add_fusion("s1_fuse", widths)
        sizes = [count + lateral * (index == 0) for index, count in enumerate(widths)]
        for stage, blocks in enumerate(BLOCKS[architecture.depth]):
            inner = [count * 2**stage for count in widths]
            extents = [(pathway.stages[stage] * blocks)[:blocks] for pathway in pathways]
            residual = Stage(
                sizes,
                inner,
                extents,
                stride=1 if stage == 0 else 2,
                non_local=architecture.non_local.get(stage, ()),
            )
            self.add_module(f"s{stage + 2}", residual)
            sizes = [4 * count for count in inner]
            if stage < 3:
                sizes[0] += self._add_fusion(f"s{stage + 2}_fuse", sizes)
        self.pool = nn.MaxPool3d((2, 1, 1)) if architecture.temporal_pool else nn.Identity()
        self.n_features = sum(sizes)
        self.head = Head(self.n_features, classes, dropout)
        if architecture.non_local:
            # Networks that it is started from lack the blocks in between.
            self.plain_names = {name: name for name in self.state_dict() if "_nonlocal" not in name}
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            # A block starts as the identity; a non-local block does by itself.
            if isinstance(module, Branch):
                nn.init.zeros_(module.c_bn.weight)
            if isinstance(module, NonLocal):
                for layer in (module.conv_theta, module.conv_phi, module.conv_g, module.conv_out):
                    nn.init.normal_(layer.weight, std=0.01)

    def features(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the feature of each clip: (B, C, T, H, W) -> (B, 1, F); see :meth:`forward`."""
        maps = self._maps(self._pathway_inputs(clips))
        return torch.cat([each.mean(dim=(2, 3, 4)) for each in maps], dim=1)[:, None]

    def forward(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return scores before the softmax.

        Parameters
        ----------
        clips
            (B, C, T, H, W). A network with two pathways takes the frames of the fast one and draws
            those of the slow one from them, or takes ``{"rgb": slow, "flow": fast}``, T fields and
            the frames of those that :func:`slow_frames` names.

        Returns
        -------
        (B, classes).

        Raises
        ------
        ParameterError
            There are more or fewer slow frames than belong to the fields.
        """
        scores: Tensor = self.head(self.features(clips)[:, 0])
        return scores

    def stages(self, clips: Tensor | Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Return the maps of each pathway after every stage, by the name of the stage."""
        outputs: dict[str, list[Tensor]] = {}
        self._maps(self._pathway_inputs(clips), outputs)
        return outputs

    def _add_fusion(self, name: str, sizes: Sequence[int]) -> int:
        """Add a lateral connection after a stage; return the channels that it adds to the slow."""
        if len(sizes) == 1:
            return 0
        fusion = Lateral(sizes[1], self.architecture.fusion_kernel, self.architecture.alpha)
        self.add_module(name, fusion)
        return fusion.conv_f2s.out_channels

    def _pathway_inputs(self, clips: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
        if len(self.architecture.pathways) == 1 and isinstance(clips, Tensor):
            return [clips]
        fast = clips if isinstance(clips, Tensor) else clips["flow"]
        chosen = slow_frames(fast.shape[2], self.architecture.alpha)
        if isinstance(clips, Tensor):
            return [fast.index_select(2, chosen.to(fast.device)), fast]
        if clips["rgb"].shape[2] != len(chosen):
            raise ParameterError(
                f"a clip has {clips['rgb'].shape[2]} RGB frames and {fast.shape[2]} flow fields; "
                f"there must be {len(chosen)} frames"
            )
        return [clips["rgb"], fast]

    def _maps(
        self, maps: list[Tensor], outputs: dict[str, list[Tensor]] | None = None
    ) -> list[Tensor]:
        for name in ("s1", "s2", "s3", "s4", "s5"):
            maps = self.get_submodule(name)(maps)
            if outputs is not None:
                outputs[name] = maps
            fusion = self._modules.get(f"{name}_fuse")
            if fusion is not None:
                maps = fusion(maps)
                if outputs is not None:
                    outputs[f"{name}_fuse"] = maps
            if name == "s2":
                maps = [self.pool(each) for each in maps]
        return maps


def slow_frames(frames: int, alpha: int) -> Tensor:
    """Return which frames of the fast pathway the slow one sees.

    They are spread from the first to the last frame, as in the release, not every `alpha`-th. Where
    the number of frames is no multiple of `alpha`, there is one more, as in the lateral maps.

    Examples
    --------
    >>> slow_frames(32, 8).tolist()
    [0, 10, 20, 31]
    >>> slow_frames(50, 8).tolist()
    [0, 8, 16, 24, 32, 40, 49]
    """
    return torch.linspace(0, frames - 1, -(-frames // alpha)).long()


class Stem(nn.Module):
    """Apply the first convolution of each pathway, and a spatial maximum."""

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], extents: Sequence[int]
    ) -> None:
        super().__init__()
        for index, (channels, count, extent) in enumerate(
            zip(inputs, outputs, extents, strict=True)
        ):
            self.add_module(f"pathway{index}_stem", ConvNorm(channels, count, extent))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of each pathway, at a quarter of the width and height."""
        return [stem(each) for stem, each in zip(self.children(), maps, strict=True)]


class ConvNorm(nn.Module):
    """Apply a strided 7 x 7 convolution, normalisation, ReLU and a strided maximum."""

    def __init__(self, inputs: int, outputs: int, extent: int) -> None:
        super().__init__()
        self.conv = FlatConv3d(
            inputs, outputs, (extent, 7, 7), (1, 2, 2), (extent // 2, 3, 3), bias=False
        )
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T, H / 4, W / 4)."""
        maps = nn.functional.relu(self.bn(self.conv(clips)), inplace=True)
        return nn.functional.max_pool3d(maps, (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Stage(nn.Module):
    """Apply the residual blocks of a stage to each pathway."""

    def __init__(
        self,
        inputs: Sequence[int],
        inner: Sequence[int],
        extents: Sequence[Sequence[int]],
        *,
        stride: int,
        non_local: Sequence[int],
    ) -> None:
        super().__init__()
        self._pathways: list[list[str]] = []
        for pathway, (count, middle, times) in enumerate(zip(inputs, inner, extents, strict=True)):
            names = []
            for index, extent in enumerate(times):
                name = f"pathway{pathway}_res{index}"
                block = Block(
                    count if index == 0 else 4 * middle, middle, extent, stride if index == 0 else 1
                )
                self.add_module(name, block)
                names.append(name)
                if pathway == 0 and index in non_local:
                    self.add_module(f"pathway0_nonlocal{index}", NonLocal(4 * middle))
                    names.append(f"pathway0_nonlocal{index}")
            self._pathways.append(names)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of each pathway."""
        outputs = []
        for names, each in zip(self._pathways, maps, strict=True):
            for name in names:
                each = self.get_submodule(name)(each)
            outputs.append(each)
        return outputs


class Block(nn.Module):
    """Add a bottleneck to its input, which is projected where the shapes differ."""

    def __init__(self, inputs: int, inner: int, extent: int, stride: int) -> None:
        super().__init__()
        self.branch1: FlatConv3d | None = None
        if inputs != 4 * inner or stride != 1:
            self.branch1 = FlatConv3d(inputs, 4 * inner, 1, (1, stride, stride), bias=False)
            self.branch1_bn = nn.BatchNorm3d(4 * inner)
        self.branch2 = Branch(inputs, inner, extent, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, 4 inner, T, H / stride, W / stride)."""
        shortcut = maps if self.branch1 is None else self.branch1_bn(self.branch1(maps))
        return nn.functional.relu(shortcut + self.branch2(maps), inplace=True)


class Branch(nn.Module):
    """Apply the three convolutions of a bottleneck: T x 1 x 1, 1 x 3 x 3, 1 x 1 x 1."""

    def __init__(self, inputs: int, inner: int, extent: int, stride: int) -> None:
        super().__init__()
        self.a = FlatConv3d(inputs, inner, (extent, 1, 1), padding=(extent // 2, 0, 0), bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = FlatConv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = FlatConv3d(inner, 4 * inner, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(4 * inner)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, 4 inner, T, H / stride, W / stride)."""
        maps = nn.functional.relu(self.a_bn(self.a(maps)), inplace=True)
        maps = nn.functional.relu(self.b_bn(self.b(maps)), inplace=True)
        normalised: Tensor = self.c_bn(self.c(maps))
        return normalised


class Lateral(nn.Module):
    """Concatenate maps of the fast pathway to those of the slow one."""

    def __init__(self, channels: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv_f2s = FlatConv3d(
            channels, 2 * channels, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False
        )
        self.bn = nn.BatchNorm3d(2 * channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of the slow pathway, with more channels, and of the fast one."""
        slow, fast = maps
        added = nn.functional.relu(self.bn(self.conv_f2s(fast)), inplace=True)
        return [torch.cat([slow, added], dim=1), fast]


class Head(nn.Module):
    """Drop features and score the rest."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(features, classes)
        nn.init.normal_(self.projection.weight, std=0.01)
        nn.init.zeros_(self.projection.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, F) to (B, classes)."""
        scores: Tensor = self.projection(self.dropout(features))
        return scores
