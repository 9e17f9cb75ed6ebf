"""Load the weights of another program, or of a network for other channels, by their names."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from flowpipe.errors import FormatError
from flowpipe.models.inflation import inflated
from flowpipe.models.names import State, matching


def load_weights(
    network: nn.Module,
    state: State,
    origin: str,
    *,
    channels: int,
    kind: str,
    left_out: tuple[str, ...],
    whole: bool = False,
) -> None:
    """Load the weights of a network of the same kind into one without its last layer.

    The weights of a first convolution for another number of channels are averaged over them and
    copied to as many as there are here. 2-D kernels are inflated where the network's are 3-D, as
    ``network.inflation`` says, if it does. ``network.fitted`` can give weights its own shapes.
    Weights that ``network.plain_names`` lacks, where there are such names, keep their initial
    values.

    Parameters
    ----------
    network
        The network.
    state
        Weights, by names that :func:`~flowpipe.models.names.matching` knows.
    channels
        Number of channels of its input.
    origin, kind
        Where they come from, and the name of the network, for the error.
    left_out
        Beginnings of the names that are not loaded.
    whole
        Weights that ``network.plain_names`` lacks must be there, too.

    Raises
    ------
    FormatError
        They are not of this kind of network; the message says what differs.
    """
    own = network.state_dict()
    # What a weight was called before temporal modules were put around its layer.
    plain: dict[str, str] = dict(getattr(network, "plain_names", {}))
    found = matching(state, own.keys() | set(plain.values()))
    found = {name: value for name, value in found.items() if not name.startswith(left_out)}
    if hasattr(network, "fitted"):
        found = cast(Any, network).fitted(found)
    source = {name: name if name in found else plain.get(name, name) for name in own}
    taken = {name: found[source[name]] for name in own if source[name] in found}
    for name, weight in taken.items():
        if weight.ndim > 3 and weight.shape[1] != own[name].shape[1] == channels:
            mean = weight.mean(dim=1, keepdim=True)
            taken[name] = mean.expand(own[name].shape[0], channels, *weight.shape[2:])
        taken[name] = inflated(taken[name], own[name], getattr(network, "inflation", "mean"))
    # Old files lack the counters of batch normalisation, which nothing here looks at.
    missing = [
        name
        for name in own
        if name not in taken and not _is_counter(name) and (whole or not plain or name in plain)
    ]
    used = {source[name] for name in taken}
    wrong = [f"{name} is no part of it" for name in found if name not in used]
    wrong += [
        f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in taken.items()
        if value.shape != own[name].shape
    ]
    if missing:
        wrong.insert(0, f"it lacks {_few(missing)}")
    if wrong:
        raise FormatError(
            f"{origin} holds no weights of {kind}: {'; '.join(wrong[:3])}; it has names such as "
            f"{', '.join(list(state)[:3])}"
        )
    network.load_state_dict(taken, strict=False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
