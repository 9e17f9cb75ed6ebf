"""Weights of networks: torchvision's, files of other programs, and the files of trained networks.

No file that is read can run code: torch's are read with ``weights_only``, which takes tensors and
nothing else; safetensors holds arrays and text.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from flowpipe.errors import BackendUnavailableError, FormatError, ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.described import (
    read_described,
    read_description,
    reading,
    save_described,
)
from flowpipe.models.names import State
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weight_names import is_file_name
from flowpipe.runner.json_files import Json

MODEL = "flowpipe model 1"
"""Format of the description in a trained network's file."""

_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
# Programs whose objects (options, logs, counters) are found in published checkpoints.
_HARMLESS = ("argparse.", "numpy.", "mmengine.", "mmcv.", "yacs.", "omegaconf.", "easydict.")


def initialise(network: StreamNetwork, weights: str, flow_weights: str | None = None) -> None:
    """Begin with the weights of a name or of a file, or leave the network as it is.

    Parameters
    ----------
    network
        Whose backbone they are for; see :meth:`StreamNetwork.load_backbone`.
    weights
        ``none``; a name of torchvision's for the network, such as ``IMAGENET1K_V1``; ``default``,
        its best ones; or a file: safetensors, or a torch state dict.
    flow_weights
        The same for the stream of flow of a network of two inputs; by default `weights`.

    Raises
    ------
    ParameterError
        There are no such weights.
    FormatError
        The file holds something else.
    BackendUnavailableError
        They cannot be downloaded.
    """
    if network.takes == "both":
        _initialise(network, weights, "rgb")
        _initialise(network, weights if flow_weights is None else flow_weights, "flow")
    else:
        _initialise(network, weights)


def _initialise(network: StreamNetwork, weights: str, part: str = "") -> None:
    if weights != "none":
        network.load_backbone(*find_weights(network, weights), part)


def find_weights(network: StreamNetwork, weights: str) -> tuple[State, str]:
    """Return the weights of a name or of a file, and where they come from, for messages.

    Parameters, errors
        As for :func:`initialise`; ``none`` is no name.
    """
    if is_file_name(weights):
        return read_state(Path(weights)), repr(weights)
    model = network.network.model
    entry = table.model(model)
    theirs = network.network.backbone if entry.has_backbone else entry.torchvision
    if not theirs:
        raise ParameterError(
            f"weights is {weights!r}; for {model} it must be none, or a file that ends in .pth, "
            ".pt or .safetensors"
        )
    return _published(theirs, weights), f"{weights!r} of torchvision's {theirs}"


def read_state(path: Path) -> State:
    """Read the weights of a file.

    Raises
    ------
    FormatError
        It does not exist, or does not hold tensors by name.
    """
    if not path.is_file():
        raise FormatError(f"{str(path)!r} does not exist; a file of weights is expected")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        unknown = _unknown_objects(path)
        # Objects of these programs become empty ones, and are dropped.
        stand_ins: list[Any] = [(type("Dropped", (_Dropped,), {}), name) for name in unknown]
        with safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise FormatError(f"{str(path)!r} is not a file of tensors: {reason}") from None
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    fits = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not fits or not content:
        raise FormatError(f"{str(path)!r} holds no tensors by name (a state dict)")
    return dict(content)


class _Dropped:
    """Take the place of an object that is not needed."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _unknown_objects(path: Path) -> list[str]:
    """Return the full names of the harmless objects in a file of torch.

    Raises
    ------
    FormatError
        There are others, which could run code.
    """
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError):  # an old file, not a zip: torch.load says what it holds
        return ["argparse.Namespace"]
    refused = sorted(name for name in names if not name.startswith(_HARMLESS))
    if refused:
        raise FormatError(
            f"{str(path)!r} holds objects of {', '.join(refused[:3])}, which are not read, since "
            "that can run code; save its state_dict alone"
        )
    return sorted(names)


def save_model(path: Path, network: StreamNetwork, about: Json, root: Path) -> None:
    """Write a network and what is to be known of it atomically, as safetensors.

    Parameters
    ----------
    path
        The file.
    network
        Its weights, its parts and its input are stored.
    about
        JSON, returned by :func:`load_model`.
    root
        Output folder, for the atomic write.
    """
    description = {
        "format": MODEL,
        "network": asdict(network.network),
        "clip": asdict(network.clip),
        "classes": list(network.classes),
        "about": about,
    }
    save_described(path, _state(network), description, root)


def load_model(path: Path) -> tuple[StreamNetwork, Json]:
    """Read what :func:`save_model` wrote.

    Raises
    ------
    FormatError
        It does not exist, is not such a file, or does not fit together.
    """
    with reading(path, "trained network"):
        state, description = read_described(path, MODEL)
        network = StreamNetwork(
            Network(**description["network"]),
            ClipInput(**description["clip"]),
            [int(count) for count in description["classes"]],
        )
        network.load_state_dict(state)
    about: Json = description["about"]
    return network, about


def read_about(path: Path) -> Json:
    """Return what :func:`save_model` was given to store with the network, without its weights.

    Raises
    ------
    FormatError
        The file is no trained network.
    """
    with reading(path, "trained network"):
        about: Json = read_description(path, MODEL)["about"]
    return about


def _state(network: nn.Module) -> State:
    state: State = network.state_dict()
    return state


def as_array(value: Tensor) -> NDArray[Any]:
    """Return a copy of a tensor of any device."""
    return value.detach().to("cpu", copy=True).numpy()


def as_state(arrays: Mapping[str, NDArray[Any]]) -> State:
    """Tensors of arrays."""
    return {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}


def _published(backbone: str, weights: str) -> State:
    try:
        known = torchvision.models.get_model_weights(backbone)
    except ValueError:
        raise ParameterError(
            f"weights is {weights!r}; torchvision has none for {backbone}: take none, or a file"
        ) from None
    names = [each.name for each in known]
    if weights != "default" and weights not in names:
        raise ParameterError(
            f"weights is {weights!r}; for {backbone} it must be none, default, "
            f"{', '.join(names)}, or a file that ends in .pth, .pt or .safetensors"
        )
    chosen = known["DEFAULT" if weights == "default" else weights]
    try:
        return cast(State, chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        raise BackendUnavailableError(
            f"{chosen.url} cannot be downloaded ({error}); bring the file here, and name it as "
            "the weights"
        ) from None


def _read_safetensors(path: Path) -> State:
    """Return the weights in a safetensors file.

    Raises
    ------
    FormatError
        The file is no whole safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
