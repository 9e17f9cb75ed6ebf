"""Names that other programs give to the weights of 3-D residual networks, and 2-D ones."""

from __future__ import annotations

import re

from torch import Tensor

# pytorchvideo counts stages from 0. The temporal pool of C2D and I3D is block 2, which has no
# weights; the head is the last block.
_PYTORCHVIDEO = (
    (r"^blocks\.0\.multipathway_blocks\.(\d)\.conv", r"s1.pathway\1_stem.conv"),
    (r"^blocks\.0\.multipathway_blocks\.(\d)\.norm", r"s1.pathway\1_stem.bn"),
    (r"^blocks\.0\.conv", r"s1.pathway0_stem.conv"),
    (r"^blocks\.0\.norm", r"s1.pathway0_stem.bn"),
    (r"multipathway_fusion\.conv_fast_to_slow", "conv_f2s"),
    (r"multipathway_fusion\.norm", "bn"),
    (r"multipathway_blocks\.(\d)\.res_blocks\.(\d+)", r"pathway\1_res\2"),
    (r"^(blocks\.\d)\.res_blocks\.(\d+)", r"\1.pathway0_res\2"),
    (r"branch1_conv", "branch1"),
    (r"branch1_norm", "branch1_bn"),
    (r"branch2\.conv_([abc])", r"branch2.\1"),
    (r"branch2\.norm_([abc])", r"branch2.\1_bn"),
    (r"^blocks\.\d\.proj", "head.projection"),
)

_TORCHVISION = (
    (r"^conv1\.", "s1.pathway0_stem.conv."),
    (r"^bn1\.", "s1.pathway0_stem.bn."),
    (r"^layer1\.(\d+)", r"s2.pathway0_res\1"),
    (r"^layer2\.(\d+)", r"s3.pathway0_res\1"),
    (r"^layer3\.(\d+)", r"s4.pathway0_res\1"),
    (r"^layer4\.(\d+)", r"s5.pathway0_res\1"),
    (r"\.downsample\.0\.", ".branch1."),
    (r"\.downsample\.1\.", ".branch1_bn."),
    (r"\.(conv|bn)1\.", r".branch2.a\1."),
    (r"\.(conv|bn)2\.", r".branch2.b\1."),
    (r"\.(conv|bn)3\.", r".branch2.c\1."),
    (r"(branch2\.[abc])conv", r"\1"),
    (r"(branch2\.[abc])bn", r"\1_bn"),
    (r"^fc\.", "head.projection."),
)


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of pytorchvideo's networks under the names of the SlowFast release.

    Those of the release are returned as they are. 2-D ones of torchvision's ResNet get the names of
    a single pathway.
    """
    if "layer4.0.conv1.weight" in state:
        return from_images(state)
    has_pool = not any(name.startswith("blocks.2.") for name in state)
    renamed = {}
    for full, value in state.items():
        name = _renamed(full, _PYTORCHVIDEO)
        stage = re.match(r"^blocks\.(\d)\.", name)
        if stage:
            fused = "_fuse" if "conv_f2s" in name or re.match(r"^blocks\.\d\.bn", name) else ""
            number = int(stage[1]) - (has_pool and int(stage[1]) > 2)
            name = f"s{number + 1}{fused}.{name[stage.end() :]}"
        renamed[name] = value
    return renamed


def from_images(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of torchvision's ResNet under the names of the pathway, as they are."""
    return {_renamed(name, _TORCHVISION): value for name, value in state.items()}


def _renamed(name: str, patterns: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name
