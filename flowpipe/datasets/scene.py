"""Draws the clips of the synthetic set, in which only motion tells the classes apart.

Two textured shapes stand before a textured background. Each has five degrees of freedom: place in
x and in y, angle, zoom, and stretch (wider, then narrower). In every clip all
of them swing as sinusoids of the same amplitudes and of a random phase; the class says only *which*
of them swings fast, the others swing slowly. A pose at a random phase has the same distribution
whatever the frequency, so a single frame says nothing of the class, and both frequencies sweep the
whole range within a clip, so neither does the average over its frames. No class changes under a
mirror image or a reversal of time, so that augmentation by flips keeps the labels true.

Textures are dead leaves (Lee, Mumford and Huang, 2001): opaque random patches over one another,
which have edges and corners at every scale, as natural images do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MOTIONS: dict[str, tuple[str, ...]] = {
    "horizontal": ("x",),
    "orbit": ("x", "y"),
    "spin": ("angle",),
    "stretch": ("stretch",),
    "vertical": ("y",),
    "zoom": ("zoom",),
}
"""Classes, in alphabetical order, and the degrees of freedom that swing fast in each."""

AMPLITUDES: dict[str, float] = {"x": 7.0, "y": 7.0, "angle": 0.45, "zoom": 0.3, "stretch": 0.3}
"""Swing of each degree of freedom: pixels, pixels, radians, log of scale, log of scale.

Pixels here and below are those of a frame whose short side is ``SHORT_SIDE``; they scale with it.
"""

SHORT_SIDE = 120
FAST_PERIOD = 10.0
"""Mean period of a fast swing, in frames."""
SLOW_PERIOD = 40.0
"""Mean period of a slow swing, in frames."""
RADIUS = 22.0
"""Mean radius of a shape, in pixels."""
PAN = 13.0
"""Swing of the camera's pan, in pixels, over one slow period."""
SHAKE = 5.0
"""Swing of the camera's shake along each axis, in pixels, over a fast period."""
ROLL = 0.1
"""Swing of the camera's roll, in radians, over a fast period."""
BREATH = 0.08
"""Swing of the camera's zoom, log of scale, over a fast period."""

_SUPERSAMPLING = 2
_SIDES = (0, 3, 4, 5, 6, 8)  # of the polygons a shape is drawn from; 0 is a disc


@dataclass(frozen=True)
class Shape:
    """Hold one shape: its BGRA texture (side, side, 4) and its rest place from the middle."""

    texture: Image
    centre: tuple[float, float]


@dataclass(frozen=True)
class Swing:
    """Compute ``amplitude * sin(2 pi t / period + phase)``, t in frames."""

    amplitude: float
    period: float
    phase: float

    def at(self, t: float) -> float:
        """Return the value at frame t."""
        return self.amplitude * math.sin(2 * math.pi * t / self.period + self.phase)


def _colours(rng: np.random.Generator, count: int, saturation: float, hue: float) -> Image:
    hsv = np.empty((count, 1, 3), np.uint8)
    hsv[:, 0, 0] = np.floor(rng.normal(hue, 14.0, count) % 180)
    hsv[:, 0, 1] = rng.uniform(0.5 * saturation, saturation, count)
    hsv[:, 0, 2] = rng.uniform(60, 235, count)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[:, 0], np.uint8)


def dead_leaves(
    rng: np.random.Generator,
    size: tuple[int, int],
    smallest: float,
    largest: float,
    saturation: float,
) -> Image:
    """Return a BGR texture (height, width, 3) of random polygons over one another.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    size
        Height and width, in pixels.
    smallest, largest
        Radii of the patches, in pixels; their density falls with the cube of the radius.
    saturation
        Of the most colourful patches, 0 to 255.
    """
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    hue = rng.uniform(0, 180)
    image[:] = _colours(rng, 1, saturation, hue)[0]
    count = int(2.5 * height * width / (smallest * largest))
    uniform = rng.uniform(size=count)
    # radii of density r^-3 between the two limits, the largest first so that none is buried
    radii = (largest**-2 + uniform * (smallest**-2 - largest**-2)) ** -0.5
    radii = np.sort(radii)[::-1]
    colours = _colours(rng, count, saturation, hue).tolist()
    centres = rng.uniform((0, 0), (width, height), (count, 2))
    angles = rng.uniform(0, 2 * math.pi, (count, 6))
    # a corner that repeats the first is none: three to six corners
    unused = np.arange(6) >= rng.integers(3, 7, (count, 1))
    angles = np.where(unused, angles[:, :1], angles)
    angles.sort(axis=1)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=2) * radii[:, None, None]
    points = np.rint((points + centres[:, None]) * 16).astype(np.int32)
    for polygon, colour in zip(points, colours, strict=True):
        cv2.fillPoly(image, [polygon], colour, lineType=cv2.LINE_AA, shift=4)
    return image


def _shape_texture(rng: np.random.Generator, radius: float, fine: float) -> Image:
    """Return a BGRA square that holds one shape of the given radius, in canvas pixels."""
    side = 2 * math.ceil(radius) + 8
    texture = dead_leaves(rng, (side, side), 3 * fine, 12 * fine, 255)
    sides = int(rng.choice(_SIDES))
    angles = np.arange(sides or 64) * (2 * math.pi / (sides or 64))
    outline = side / 2 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = [np.rint(outline * 16).astype(np.int32)]
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, points, (255,), lineType=cv2.LINE_AA, shift=4)
    edge = (20, 20, 20) if rng.uniform() < 0.5 else (245, 245, 245)
    cv2.polylines(
        texture, points, True, edge, max(1, round(1.5 * fine)), lineType=cv2.LINE_AA, shift=4
    )
    return np.dstack([texture, mask])


@dataclass(frozen=True)
class Scene:
    """Hold what one clip looks like; each scene is rendered once for every class."""

    size: tuple[int, int]
    background: Image
    shapes: tuple[Shape, ...]
    camera: tuple[Swing, ...]  # pan x, pan y, shake x, shake y, roll, zoom; empty stands still

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int], *, moving: bool) -> Scene:
        """Draw a random scene of the given (height, width), with a moving camera or a still one."""
        height, width = size
        scale = min(size) / SHORT_SIDE
        fine = _SUPERSAMPLING * scale
        margin = math.ceil(scale * (PAN + SHAKE) + (ROLL + BREATH) * (width + height) / 2) + 2
        whole = (_SUPERSAMPLING * (height + 2 * margin), _SUPERSAMPLING * (width + 2 * margin))
        background = dead_leaves(rng, whole, 4.5 * fine, 32 * fine, 110)
        shapes = []
        for side in (-1, 1):
            texture = _shape_texture(rng, RADIUS * rng.uniform(0.85, 1.1) * fine, fine)
            x = side * width * rng.uniform(0.2, 0.28)
            y = height * rng.uniform(-0.12, 0.12)
            shapes.append(Shape(texture, (x, y)))
        direction = rng.uniform(0, 2 * math.pi)
        phases = rng.uniform(0, 2 * math.pi, 5)
        periods = rng.uniform(0.8, 1.25, 5)
        pan = SLOW_PERIOD * periods[0]
        camera = (
            Swing(scale * PAN * math.cos(direction), pan, phases[0]),
            Swing(scale * PAN * math.sin(direction), pan, phases[0]),
            Swing(scale * SHAKE, FAST_PERIOD * periods[1], phases[1]),
            Swing(scale * SHAKE, FAST_PERIOD * periods[2], phases[2]),
            Swing(ROLL, FAST_PERIOD * periods[3], phases[3]),
            Swing(BREATH, FAST_PERIOD * periods[4], phases[4]),
        )
        return cls(size, background, tuple(shapes), camera if moving else ())

    def render(self, rng: np.random.Generator, motion: str, n_frames: int) -> Iterator[Image]:
        """Yield the frames of one class, BGR (height, width, 3).

        Parameters
        ----------
        rng
            Gives the phases, periods and strengths of the swings.
        motion
            One of :data:`MOTIONS`.
        n_frames
            How many.
        """
        scale = min(self.size) / SHORT_SIDE
        swings = [draw_swings(rng, motion, scale) for _ in self.shapes]
        for t in range(n_frames):
            poses = [{name: of_time.at(t) for name, of_time in swing.items()} for swing in swings]
            yield self.frame(t, poses)

    def frame(self, t: int, poses: Sequence[Mapping[str, float]]) -> Image:
        """Return one frame, BGR (height, width, 3).

        Parameters
        ----------
        t
            Its number, which says where the camera is.
        poses
            Of each shape, its degrees of freedom.
        """
        height, width = self.size
        camera = self._camera(t)
        to_canvas = _about_middle(camera, self.background)
        to_canvas[:, 2] += self._middle
        whole = (_SUPERSAMPLING * width, _SUPERSAMPLING * height)
        canvas = np.asarray(
            cv2.warpAffine(self.background, to_canvas, whole, borderMode=cv2.BORDER_REFLECT_101),
            np.uint8,
        )
        for shape, pose in zip(self.shapes, poses, strict=True):
            to_canvas = _about_middle(camera @ _pose_matrix(pose, shape.centre), shape.texture)
            to_canvas[:, 2] += self._middle
            _paint(canvas, shape.texture, to_canvas)
        return np.asarray(
            cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )

    @property
    def _middle(self) -> NDArray[np.float64]:
        """Return the middle of the supersampled canvas."""
        height, width = self.size
        return (np.array([width, height]) * _SUPERSAMPLING - 1) / 2

    def _camera(self, t: float) -> NDArray[np.float64]:
        """Return the world-to-frame transform at time t, from the middle of the frame, (3, 3)."""
        if not self.camera:
            return np.eye(3)
        pan_x, pan_y, shake_x, shake_y, roll, zoom = self.camera
        c, s = (math.exp(zoom.at(t)) * f(roll.at(t)) for f in (math.cos, math.sin))
        return np.array(
            [
                [c, -s, pan_x.at(t) + shake_x.at(t)],
                [s, c, pan_y.at(t) + shake_y.at(t)],
                [0.0, 0.0, 1.0],
            ]
        )


def _about_middle(matrix: NDArray[np.float64], texture: Image) -> NDArray[np.float64]:
    """Return the transform of texture pixels to canvas pixels about its middle, (2, 3)."""
    result = matrix[:2].copy()
    middle = (np.array(texture.shape[1::-1]) - 1) / 2
    result[:, 2] = _SUPERSAMPLING * result[:, 2] - result[:, :2] @ middle
    return result


def _paint(canvas: Image, texture: Image, to_canvas: NDArray[np.float64]) -> None:
    """Blend a BGRA texture into the canvas, in place."""
    height, width = texture.shape[:2]
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    where = to_canvas @ corners
    limits = np.array(canvas.shape[1::-1])
    low = np.clip(np.floor(where.min(axis=1)).astype(int), 0, limits)
    high = np.clip(np.ceil(where.max(axis=1)).astype(int) + 1, 0, limits)
    if (high <= low).any():
        return
    to_box = to_canvas.copy()
    to_box[:, 2] -= low
    layer = cv2.warpAffine(texture, to_box, (high - low).tolist()).astype(np.float32)
    box = canvas[low[1] : high[1], low[0] : high[0]]
    alpha = layer[..., 3:] / 255
    box[:] = np.rint(box + alpha * (layer[..., :3] - box)).astype(np.uint8)


def draw_swings(rng: np.random.Generator, motion: str, scale: float) -> dict[str, Swing]:
    """Draw the swings of one shape in a motion; pixels are scaled."""
    fast = MOTIONS[motion]
    phases = rng.uniform(0, 2 * math.pi, len(AMPLITUDES))
    strengths = rng.uniform(0.85, 1.15, len(AMPLITUDES))
    stretches = rng.uniform(0.9, 1.1, len(AMPLITUDES))
    swings = {}
    for (name, amplitude), phase, strength, stretch in zip(
        AMPLITUDES.items(), phases, strengths, stretches, strict=True
    ):
        period = (FAST_PERIOD if name in fast else SLOW_PERIOD) * stretch
        if name in ("x", "y"):
            amplitude *= scale
        swings[name] = Swing(amplitude * strength, period, phase)
    if motion == "orbit":
        quarter = math.copysign(math.pi / 2, rng.uniform(-1, 1))
        x = swings["x"]
        swings["y"] = Swing(x.amplitude, x.period, x.phase + quarter)
    return swings


def _pose_matrix(pose: Mapping[str, float], centre: tuple[float, float]) -> NDArray[np.float64]:
    """Return the shape-to-world transform, from middle to middle, (3, 3)."""
    c, s = math.cos(pose["angle"]), math.sin(pose["angle"])
    wider = math.exp(pose["zoom"] + pose["stretch"])
    higher = math.exp(pose["zoom"])
    return np.array(
        [
            [wider * c, -wider * s, centre[0] + pose["x"]],
            [higher * s, higher * c, centre[1] + pose["y"]],
            [0.0, 0.0, 1.0],
        ]
    )
