"""Names that other programs give to the weights of the same networks."""

from __future__ import annotations

import re

from torch import Tensor

State = dict[str, Tensor]

PREFIXES = (
    "module.base_model.",  # tsn-pytorch, TSM, TRN
    "base_model.",
    "module.backbone.",
    "backbone.",  # mmaction2
    "module.model.",
    "model.",
    "module.",
    "",
)
"""What training scripts put before the names, longest first."""

HEADS = ("new_fc.", "module.new_fc.", "cls_head.", "module.cls_head.", "consensus.")
"""Beginnings of the names of heads beside a backbone."""

# mmaction2 nests a convolution and its normalisation in one module.
_MMACTION = (
    (r"\bconv(\d?)\.conv\.", r"conv\1."),
    (r"\bconv(\d?)\.bn\.", r"bn\1."),
    (r"\bdownsample\.conv\.", "downsample.0."),
    (r"\bdownsample\.bn\.", "downsample.1."),
)


def matching(state: State, wanted: set[str]) -> State:
    """Return the weights with the names that a network has, whichever program named them.

    Parameters
    ----------
    state
        Weights by their name in a file.
    wanted
        Names of the network's own weights.

    Returns ------- The weights under the renaming that fits most of the network's names. Weights of
    heads that stand beside a backbone are left out.
    """
    candidates = []
    for prefix in PREFIXES:
        stripped = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix) and not name.startswith(HEADS)
        }
        renamed = {_from_mmaction(name): value for name, value in stripped.items()}
        candidates += [stripped, renamed]
    best = max(candidates, key=lambda found: len(wanted & found.keys()))
    return best if wanted & best.keys() else state


def _from_mmaction(name: str) -> str:
    for pattern, replacement in _MMACTION:
        name = re.sub(pattern, replacement, name)
    return name
