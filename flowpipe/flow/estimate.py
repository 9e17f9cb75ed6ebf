"""Optical flow of images that are in memory."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.flow import methods, solvers
from flowpipe.flow.solvers import Backend

_DIMENSIONS = "(H, W) or (H, W, 3), or (N, H, W) or (N, H, W, 3) for N pairs"


def optical_flow(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    method: str = "tvl1",
    backend: Backend | Literal["auto"] = "auto",
    **parameters: Any,
) -> NDArray[np.float32]:
    """Compute the optical flow from one image to another, or of a batch of pairs.

    The default is TV-L1 (Zach, Pock and Bischof, DAGM 2007) with the parameters and the scheme of
    OpenCV's CUDA solver, with which the published two-stream and TSN flow was computed.

    Parameters
    ----------
    first, second
        Images of one size, uint8: (H, W) grey or (H, W, 3) RGB, at least 16 pixels a side; or
        (N, H, W) or (N, H, W, 3) for N pairs. An array whose last axis is 3 long is taken for
        colour.
    method
        ``tvl1``, ``farneback``, ``dis``, ``brox``, ``raft`` or ``nvidia``.
    backend
        The solver; ``auto`` takes the best that runs on this machine, see ``flowpipe doctor``.
    **parameters
        Parameters of the method, such as ``lambda_=0.1`` for TV-L1; see
        :mod:`flowpipe.flow.parameters`. For TV-L1 also ``preset``, whose values they change:
        ``published``, ``fast`` or ``accurate``.

    Returns
    -------
    (2, H, W) or (N, 2, H, W) float32
        Displacement in pixels of each pixel of the first image: x (to the right), then y (down).

    Raises
    ------
    ParameterError
        The images do not match, or there is no such method or parameter.
    BackendUnavailableError
        The solver cannot run on this machine.

    Examples
    --------
    >>> import numpy as np
    >>> import flowpipe
    >>> noise = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    >>> first = np.kron(noise, np.ones((4, 4), np.uint8))
    >>> second = np.roll(first, 2, axis=1)
    >>> flow = flowpipe.optical_flow(first, second, method="dis")
    >>> flow.shape
    (2, 160, 200)
    >>> bool(np.abs(np.median(flow, axis=(1, 2)) - (2, 0)).max() < 0.1)
    True
    """
    first, second = np.asarray(first), np.asarray(second)
    for name, image in (("first", first), ("second", second)):
        if image.dtype != np.uint8:
            raise ParameterError(f"{name} has the type {image.dtype}; it must be uint8")
        if image.ndim not in (2, 3, 4) or (image.ndim == 4 and image.shape[-1] != 3):
            raise ParameterError(f"{name} has the shape {image.shape}; it must be {_DIMENSIONS}")
    if first.shape != second.shape:
        raise ParameterError(
            f"first has the shape {first.shape} and second {second.shape}; they must be the same"
        )
    entry = methods.method(method)
    kind = entry.parameters
    # DIS has a parameter of this name, for OpenCV's presets.
    own = any(each.name == "preset" for each in fields(kind))
    preset = entry.preset("published" if own else parameters.pop("preset", "published"))
    try:
        chosen = replace(preset, **parameters)
    except TypeError as error:
        known = ", ".join(each.name for each in fields(kind))
        raise ParameterError(f"parameters of {method}: {error}; known are {known}") from None
    frames = [_batch(image, colour=entry.colour) for image in (first, second)]
    count, height, width = frames[0].shape[:3]
    solver = solvers.create(chosen, solvers.choose(backend, method, chosen), height, width)
    single = first.ndim == 2 or (first.ndim == 3 and first.shape[-1] == 3)
    flow = np.empty((count, 2, height, width), np.float32)
    for index in range(count):
        pair = slice(index, index + 1)
        flow[pair] = solver(frames[0][pair], frames[1][pair])
    return flow[0] if single else flow


def _batch(image: NDArray[np.uint8], *, colour: bool) -> NDArray[np.uint8]:
    """Return (N, H, W) grey levels, or (N, H, W, 3) RGB for methods that take colour."""
    if image.shape[-1] != 3:
        grey = image.reshape(-1, *image.shape[-2:])
        return np.repeat(grey[..., None], 3, axis=-1) if colour else grey
    rgb = image.reshape(-1, *image.shape[-3:])
    if colour:
        return rgb
    return np.stack([np.asarray(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY)) for each in rgb])
