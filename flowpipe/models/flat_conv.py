"""3-D convolutions over time alone, or over space alone, computed as 2-D ones.

On a CPU, torch computes many 3-D convolutions without oneDNN: of one clip's small maps, and with
one thread all of one pixel. Those with the channels last are slower still. The same sums as 2-D
convolutions take a half to a tenth of the time on one core, forward and backward: of rows, of
frames, or of frames laid out as rows, one under the other. Maps with the channels last are not
copied for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d


class FlatConv3d(nn.Conv3d):
    """Convolve as :class:`torch.nn.Conv3d` does, faster where the kernel is flat.

    Examples
    --------
    >>> over_time = FlatConv3d(4, 8, (3, 1, 1), padding=(1, 0, 0))
    >>> over_time(torch.zeros(1, 4, 6, 5, 5)).shape
    torch.Size([1, 8, 6, 5, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T', H', W')."""
        assert not isinstance(self.padding, str)
        return self.padded_by(self.padding, input)

    def padded_by(self, padding: Sequence[int], maps: Tensor) -> Tensor:
        """Return the convolution of maps with as many zeros before and after T, H and W."""
        kernel, stride = self.kernel_size, self.stride
        if maps.shape[3:] == (1, 1) and kernel[1:] == tuple(2 * side + 1 for side in padding[1:]):
            return self._over_single_pixels(maps, padding[0])
        if kernel == stride == (1, 1, 1) and not any(padding):
            return self._of_rows(_channels_last(maps))
        if kernel[1:] == stride[1:] == (1, 1) and not any(padding[1:]):
            return self._over_time(_channels_last(maps), padding[0])
        if kernel[0] == stride[0] == 1 and not padding[0]:
            return self._over_space(_channels_last(maps), padding[1:])
        return conv3d(
            maps, self.weight, self.bias, stride, tuple(padding), self.dilation, self.groups
        )

    def _over_single_pixels(self, maps: Tensor, padding: int) -> Tensor:
        """Convolve maps of one pixel, which only the middle of the kernel meets.

        In bfloat16 on a CPU, torch 2.14.1 computes gradients of such maps that are not numbers.
        """
        middle = self.weight[..., self.kernel_size[1] // 2, self.kernel_size[2] // 2]
        out = conv1d(
            maps.flatten(2),
            middle,
            self.bias,
            self.stride[0],
            padding,
            self.dilation[0],
            self.groups,
        )
        return out[..., None, None]

    def _of_rows(self, maps: Tensor) -> Tensor:
        """Convolve single pixels: each row is an image."""
        rows = maps.movedim(1, -1)
        images = rows.reshape(-1, 1, *rows.shape[3:]).movedim(-1, 1)
        out = conv2d(images, self.weight[:, :, 0], self.bias, groups=self.groups)
        return out.movedim(1, -1).reshape(*rows.shape[:4], -1).movedim(-1, 1)

    def _over_time(self, maps: Tensor, padding: int) -> Tensor:
        """Convolve over time: the frames of a clip are the rows of an image."""
        out = conv2d(
            maps.flatten(3),
            self.weight[..., 0],
            self.bias,
            (self.stride[0], 1),
            (padding, 0),
            (self.dilation[0], 1),
            self.groups,
        )
        return out.unflatten(3, maps.shape[3:])

    def _over_space(self, maps: Tensor, padding: Sequence[int]) -> Tensor:
        """Convolve each frame: it is an image."""
        out = conv2d(
            maps.transpose(1, 2).flatten(0, 1),
            self.weight[:, :, 0],
            self.bias,
            self.stride[1:],
            tuple(padding),
            self.dilation[1:],
            self.groups,
        )
        return out.unflatten(0, (maps.shape[0], maps.shape[2])).transpose(1, 2)


def flatten_convolutions(network: nn.Module) -> None:
    """Compute the flat 3-D convolutions of a network as 2-D ones; their names stay."""
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Conv3d) and _is_flat(child):
                with torch.device("meta"):
                    made = FlatConv3d(
                        child.in_channels,
                        child.out_channels,
                        child.kernel_size,  # type: ignore[arg-type]
                        child.stride,  # type: ignore[arg-type]
                        child.padding,  # type: ignore[arg-type]
                        child.dilation,  # type: ignore[arg-type]
                        child.groups,
                        bias=child.bias is not None,
                    )
                made.weight, made.bias = child.weight, child.bias
                setattr(module, name, made)


def _is_flat(convolution: nn.Conv3d) -> bool:
    is_plain = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    kernel = convolution.kernel_size
    return is_plain and (kernel[0] == 1 or kernel[1:] == (1, 1))


def _channels_last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last_3d)
