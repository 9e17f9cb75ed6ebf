"""Labels over frames: where they are drawn, how long their bars are, names that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.report.labels import draw_labels, enlarged, magnification

_BAR = (240, 190, 70)
"""BGR."""


def bar_lengths(picture: np.ndarray) -> list[int]:
    """Widths of the rows that have pixels of the bars' colour, in their order, once per bar."""
    widths = (picture == _BAR).all(axis=2).sum(axis=1)
    starts = np.flatnonzero((widths > 0) & (np.roll(widths, 1) == 0))
    return [int(widths[row]) for row in starts]


def test_bars_are_as_long_as_their_shares():
    frame = np.full((480, 640, 3), 200, np.uint8)
    picture = draw_labels(frame, [("walk", "80 %", 0.8), ("run", "20 %", 0.2)])
    long, short = bar_lengths(picture)
    assert long / short == pytest.approx(4, rel=0.1)
    assert (frame == 200).all()
    np.testing.assert_array_equal(picture[300:], frame[300:])


@pytest.mark.parametrize("name", ["walking the dog with a very long leash and a hat", "прыжок", ""])
@pytest.mark.parametrize("shape", [(240, 320), (241, 63), (16, 16)])
def test_any_name_fits_any_frame(name, shape):
    frame = np.full((*shape, 3), 90, np.uint8)
    picture = draw_labels(frame, [(name, "100 %", 1.7)] * 3)
    assert picture.shape == frame.shape
    assert (picture != frame).any()


def test_names_of_other_scripts_are_no_boxes():
    frame = np.zeros((480, 640, 3), np.uint8)
    drawn = [draw_labels(frame, [(name, "", 0)]) for name in ("прыжок", "дождь", "")]
    assert (drawn[0] != drawn[1]).any()
    assert drawn[0].sum() > drawn[1].sum() > drawn[2].sum()


def test_small_frames_are_enlarged():
    assert enlarged(np.zeros((144, 180, 3), np.uint8)).shape == (288, 360, 3)
    assert enlarged(np.zeros((240, 320, 3), np.uint8)).shape == (240, 320, 3)
    assert magnification(1) == 240
