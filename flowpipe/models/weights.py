"""Weights of networks: torchvision's, files of others, and the files of trained streams.

No file that is read can run code: torch's are read with ``weights_only``, which takes tensors and
nothing else; safetensors and npz hold arrays.
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
from torch import Tensor, nn

from flowpipe.errors import BackendUnavailableError, FormatError, ParameterError
from flowpipe.io.npz import load_arrays, save_arrays
from flowpipe.models.stream import Network, State, StreamNetwork
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import sha256

MODEL = "flowpipe stream 1"
"""Format of a trained stream's file."""

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")


def initialise(network: StreamNetwork, weights: str) -> None:
    """Begin with the weights of a name or of a file, or leave the network as it is.

    Parameters
    ----------
    network
        Whose backbone they are for; see :meth:`StreamNetwork.load_backbone`.
    weights
        ``none``; a name of torchvision's for the network, such as ``IMAGENET1K_V1``; ``default``,
        its best ones; or a file: safetensors, a torch state dict, or a trained stream's npz.

    Raises
    ------
    ParameterError
        There are no such weights.
    FormatError
        The file holds something else.
    BackendUnavailableError
        They cannot be downloaded.
    """
    if weights == "none":
        return
    path = Path(weights)
    if path.suffix in (".safetensors", ".pt", ".pth", ".npz", ".tar", ".bin"):
        network.load_backbone(read_state(path), repr(weights))
        return
    backbone = network.network.backbone
    network.load_backbone(_published(backbone, weights), f"{weights!r} of torchvision")


def identity(weights: str) -> str:
    """What tells weights apart: their name, or the digest of their file."""
    path = Path(weights)
    return f"sha256 {sha256(path)}" if path.is_file() else weights


def read_state(path: Path) -> State:
    """Read the weights of a file.

    Raises
    ------
    FormatError
        It does not exist, or does not hold tensors by name.
    """
    if not path.is_file():
        raise FormatError(f"{str(path)!r} does not exist; a file of weights is expected")
    if path.suffix == ".npz":
        return _split_state(path)[1]
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        told = str(error).partition("\n")[0]
        raise FormatError(
            f"{str(path)!r} is not a file of tensors: {told}; files with other objects are not "
            "read, since they can run code"
        ) from None
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


def save_model(path: Path, network: StreamNetwork, about: Json, root: Path) -> None:
    """Write a network and what is to be known of it atomically.

    Parameters
    ----------
    path
        The npz.
    network
        Its weights and what it is made of are stored.
    about
        JSON, given back by :func:`load_model`.
    root
        Output folder, for the atomic write.
    """
    description = {
        "network": asdict(network.network),
        "channels": network.channels,
        "classes": list(network.classes),
        "about": about,
    }
    save_arrays(path, MODEL, description, arrays_of(network), root)


def load_model(path: Path) -> tuple[StreamNetwork, Json]:
    """Read what :func:`save_model` wrote.

    Raises
    ------
    FormatError
        It does not exist, is not such a file, or does not fit together.
    """
    description, state = _split_state(path)
    try:
        network = StreamNetwork(
            Network(**description["network"]),
            int(description["channels"]),
            [int(count) for count in description["classes"]],
        )
        about = description["about"]
        if not isinstance(about, dict):
            raise TypeError("about is no object")
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, ParameterError) as error:
        told = " ".join(str(error).split())
        raise FormatError(f"{str(path)!r} is not a whole stream: {told}") from None
    return network, about


def arrays_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Weights, statistics and counters by name."""
    return {name: as_array(value) for name, value in network.state_dict().items()}


def as_array(value: Tensor) -> NDArray[Any]:
    """A copy of a tensor of any device."""
    return value.detach().to("cpu", copy=True).numpy()


def as_state(arrays: Mapping[str, NDArray[Any]]) -> State:
    """Tensors of arrays."""
    return {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}


def _split_state(path: Path) -> tuple[Json, State]:
    try:
        description, arrays = load_arrays(path, MODEL)
        return description, as_state(arrays)
    except FileNotFoundError:
        raise FormatError(f"{str(path)!r} does not exist; a trained stream is expected") from None
    except TypeError as error:
        raise FormatError(f"{str(path)!r} holds something else than numbers: {error}") from None


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
            f"{', '.join(names)}, or a file that ends in .pth, .pt, .safetensors or .npz"
        )
    chosen = known["DEFAULT" if weights == "default" else weights]
    try:
        return cast(State, chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        raise BackendUnavailableError(
            f"{chosen.url} cannot be downloaded ({error}); bring the file here and name it as "
            "the weights, or take none"
        ) from None


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise BackendUnavailableError(
            f"{str(path)!r} takes the package safetensors: pip install 'flowpipe[safetensors]'"
        ) from None
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FormatError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
    return state
