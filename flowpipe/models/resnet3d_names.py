"""Names of the weights of 3-D residual networks in pytorchvideo."""

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


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of pytorchvideo's networks under the names here.

    Weights of the SlowFast release have these names already and are returned as they are.
    """
    has_pool = not any(name.startswith("blocks.2.") for name in state)
    renamed = {}
    for full, value in state.items():
        name = full
        for pattern, replacement in _PYTORCHVIDEO:
            name = re.sub(pattern, replacement, name)
        stage = re.match(r"^blocks\.(\d)\.", name)
        if stage:
            fused = "_fuse" if "conv_f2s" in name or re.match(r"^blocks\.\d\.bn", name) else ""
            number = int(stage[1]) - (has_pool and int(stage[1]) > 2)
            name = f"s{number + 1}{fused}.{name[stage.end() :]}"
        renamed[name] = value
    return renamed
