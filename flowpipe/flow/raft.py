"""RAFT flow: torchvision's networks with its weights, or those of a file.

Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020. The network
takes colour frames of -1 to 1, whose sides are multiples of eight; others are padded with copies of
the border on both sides, as torchvision's reference does.
"""

from __future__ import annotations

import functools
import pickle
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from flowpipe.errors import BackendUnavailableError, FormatError, ParameterError, check_range
from flowpipe.flow.devices import first_device
from flowpipe.runner.provenance import sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_SIDE = 121
"""Pixels; padded to 128, of which the coarsest level of the correlations is 2."""
_LARGEST_BATCH = 16
_CORRELATIONS = 1 << 30
"""Bytes of the correlations of a batch, of every eighth pixel with every other; four levels."""
_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Raft:
    """RAFT of Teed and Deng (2020), as torchvision has it."""

    method: ClassVar[str] = "raft"

    weights: Annotated[str, tyro.conf.arg(metavar="NAME|FILE", aliases=["--weights"])] = "default"
    """Weights of the network: a file (.safetensors, .pth or .pt) under torchvision's names, or
    torchvision's by their name, such as C_T_SKHT_V2, which are downloaded once; default is its
    best."""
    network: Literal["large", "small"] = "large"
    """Network: the large one has five times the parameters of the small one."""
    updates: int = 12
    """Number of updates of the flow."""

    def __post_init__(self) -> None:
        if self.network not in ("large", "small"):
            raise ParameterError(f"network is {self.network!r}; it must be large or small")
        check_range("updates", self.updates, 1, 1000)


def recorded(parameters: Raft) -> dict[str, Any]:
    """Return what is recorded of the parameters: the digest of a file of weights, not its path."""
    weights = parameters.weights
    path = Path(weights)
    if path.suffix in _SUFFIXES:
        _check_file(path)
        status = path.stat()
        weights = f"sha256 {_digest(path, status.st_size, status.st_mtime_ns)}"
    return asdict(parameters) | {"weights": weights}


@functools.lru_cache(maxsize=8)
def _digest(path: Path, size: int, time: int) -> str:
    """Return the digest of a file, read again if its size or its time has changed."""
    return sha256(path)


def why_unavailable(backend: str) -> str | None:
    """Return the reason if the networks cannot run here, else None."""
    missing = [name for name in ("torch", "torchvision") if find_spec(name) is None]
    return f"{missing[0]} is not installed; run: pip install torch torchvision" if missing else None


class RaftSolver:
    """RAFT flow of pairs of colour frames of one size.

    Parameters
    ----------
    parameters
        Network and weights.
    backend
        ``torch``.
    height, width
        Size of the frames in pixels.
    device
        The torch device; by default the first accelerator, else the CPU.

    Raises
    ------
    ParameterError
        The frames are too small, or there are no weights of this name.
    FormatError
        The file does not hold the weights of the network.
    BackendUnavailableError
        The weights cannot be downloaded.
    """

    def __init__(
        self, parameters: Raft, backend: str, height: int, width: int, device: str | None
    ) -> None:
        import torchvision

        if min(height, width) < SMALLEST_SIDE:
            raise ParameterError(
                f"frames are {width}x{height}; raft needs at least {SMALLEST_SIDE}x{SMALLEST_SIDE}"
            )
        self.name, self.version = "torchvision", str(torchvision.__version__)
        self._device = device or first_device()
        self._network = _network(parameters.network, parameters.weights, self._device)
        self._updates = parameters.updates
        across, down = -width % 8, -height % 8
        self._pad = (across // 2, across - across // 2, down // 2, down - down // 2)
        self._size = (height, width)
        bytes_each = 4 * (-(-height // 8) * -(-width // 8)) ** 2 * 4 // 3
        self._batch = min(max(_CORRELATIONS // bytes_each, 1), _LARGEST_BATCH)

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 2, H, W) flow of (N, H, W, 3) RGB frames."""
        import torch

        flow = np.empty((len(first), 2, *self._size), np.float32)
        left, _, top, _ = self._pad
        height, width = self._size
        with torch.inference_mode():
            for start in range(0, len(first), self._batch):
                part = slice(start, start + self._batch)
                frames = (self._input(each[part]) for each in (first, second))
                found = self._network(*frames, num_flow_updates=self._updates)[-1]
                flow[part] = found[..., top : top + height, left : left + width].cpu().numpy()
        return flow

    def _input(self, frames: NDArray[np.uint8]) -> Tensor:
        import torch
        from torch.nn import functional

        levels = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)
        images = levels.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5).contiguous()
        return functional.pad(images, self._pad, mode="replicate")


@functools.lru_cache(maxsize=2)
def _network(size: str, weights: str, device: str) -> nn.Module:
    """Return a network with its weights on a device; kept, for frames of other sizes."""
    from torchvision.models import optical_flow

    make = optical_flow.raft_large if size == "large" else optical_flow.raft_small
    network: nn.Module = make(weights=None)
    path = Path(weights)
    state = read_weights(path) if path.suffix in _SUFFIXES else _published(size, weights)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise FormatError(f"{weights!r} does not fit torchvision's raft_{size}: {reason}") from None
    return network.eval().to(device)


def read_weights(path: Path) -> dict[str, Any]:
    """Read weights by name, from safetensors or a state dict of torch, without running code.

    Raises
    ------
    FormatError
        It does not exist, or holds something else.
    """
    import safetensors.torch
    import torch

    _check_file(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise FormatError(f"{str(path)!r} is not a file of tensors: {reason}") from None
    named = isinstance(state, dict) and all(torch.is_tensor(value) for value in state.values())
    if not named:
        raise FormatError(f"{str(path)!r} holds no tensors by name (a state dict)")
    return dict(state)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FormatError(f"{str(path)!r} does not exist; a file of RAFT's weights is expected")


def _published(size: str, name: str) -> dict[str, Any]:
    from urllib.error import URLError

    from torchvision.models import optical_flow

    table: Any = optical_flow.Raft_Large_Weights if size == "large" else None
    table = table or optical_flow.Raft_Small_Weights
    known = [each.name for each in table]
    if name != "default" and name not in known:
        raise ParameterError(
            f"weights is {name!r}; for the {size} network it must be default, "
            f"{', '.join(known)}, or a file that ends in {', '.join(_SUFFIXES)}"
        )
    entry = table.DEFAULT if name == "default" else table[name]
    try:
        state: dict[str, Any] = entry.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise BackendUnavailableError(
            f"weights {entry.name} cannot be downloaded from {entry.url} ({error}); download them "
            "elsewhere, and give the file"
        ) from None
    return state
