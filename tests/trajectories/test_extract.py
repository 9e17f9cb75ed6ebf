"""Properties on made-up motion, and the errors of bad input."""

import cv2
import numpy as np
import pytest

from flowpipe.errors import FormatError, ParameterError
from flowpipe.trajectories.boxes import box_mask, read_boxes
from flowpipe.trajectories.draw import draw_tracks
from flowpipe.trajectories.extract import (
    Trajectories,
    extract,
    set_times,
)
from flowpipe.trajectories.parameters import TrajectoryParameters

from .conftest import join

DT, IDT = TrajectoryParameters(kind="dt"), TrajectoryParameters(kind="idt")


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 2)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def moving(
    dx: float, dy: float, count: int, height: int = 96, width: int = 128
) -> list[np.ndarray]:
    """A texture that moves by (dx, dy) pixels a frame."""
    margin = int(np.ceil(count * max(abs(dx), abs(dy)))) + 2
    big = texture(height + 2 * margin, width + 2 * margin)
    frames = []
    for t in range(count):
        shift = np.float32([[1, 0, t * dx - margin], [0, 1, t * dy - margin]])
        grey = cv2.warpAffine(big, shift, (width, height), flags=cv2.INTER_LINEAR)
        frames.append(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    return frames


def run(frames: list[np.ndarray], parameters: TrajectoryParameters, **kwargs) -> Trajectories:
    batches = list(extract(frames, parameters, length=len(frames), **kwargs))
    if batches:
        return join(batches)
    return Trajectories(*(np.empty((0, w), np.float32) for w in parameters.widths.values()))


@pytest.mark.parametrize(
    ("dx", "dy", "hof_bin"), [(2, 0, 0), (0, 2, 2), (-2, 0, 4), (1.5, -1.5, 7)]
)
def test_a_moving_pattern_gives_tracks_of_its_motion(dx, dy, hof_bin):
    rows = run(moving(dx, dy, 20), DT)
    assert len(rows) > 100
    steps = rows.trajectory.reshape(len(rows), -1, 2) * rows.info[:, 5, None, None]
    assert np.median(np.abs(steps - [dx, dy])) < 0.1
    hof = rows.hof.reshape(len(rows), 3, 4, 9)
    assert (hof.mean(axis=(0, 1, 2)).argmax()) == hof_bin
    # the same motion everywhere has no gradient: MBH is flat
    assert np.median(rows.mbhx.std(axis=1)) < 0.5 * np.median(rows.hof.std(axis=1))


def test_the_camera_s_motion_leaves_hardly_a_row():
    frames = moving(2, 1, 20, 120, 160)
    assert len(run(frames, IDT)) <= 0.02 * len(run(frames, DT))


def test_what_moves_by_itself_stays_while_the_camera_moves():
    frames = moving(2, 0, 20, 120, 160)
    block = cv2.cvtColor(texture(40, 40, 1), cv2.COLOR_GRAY2BGR)
    for t, frame in enumerate(frames):
        frame[20 + 3 * t : 60 + 3 * t, 60:100] = block
    rows = run(frames, IDT)
    assert len(rows) > 20
    assert np.mean((rows.info[:, 1] > 45) & (rows.info[:, 1] < 115)) > 0.9


@pytest.mark.parametrize("parameters", [DT, IDT])
def test_a_clip_of_fifteen_frames_has_no_rows(parameters):
    frames = moving(2, 0, 16)
    assert len(run(frames[:15], parameters)) == 0
    assert len(run(frames, DT)) > 0


def test_flat_frames_have_no_rows():
    assert len(run([np.full((64, 64, 3), 90, np.uint8)] * 18, IDT)) == 0


def test_rows_are_normalised_and_placed():
    rows = run(moving(2, 1, 18), DT)
    steps = rows.trajectory.reshape(len(rows), -1, 2)
    np.testing.assert_allclose(np.hypot(*steps.T).sum(axis=0), 1, rtol=1e-5)
    # no more than L1 + square root gives: each frame's squares sum to 1, and a mean is below that
    for field in (rows.hog, rows.hof, rows.mbhx, rows.mbhy):
        squares = (field.reshape(len(rows), 3, -1) ** 2).sum(axis=2)
        assert (squares <= 1 + 1e-5).all()
        # the mean of five unit vectors without negative parts is not shorter than 1 / sqrt(5)
        assert (squares >= 0.2 - 1e-5).all()
    np.testing.assert_allclose(rows.info[:, 7], rows.info[:, 1] / 128, rtol=1e-5)
    np.testing.assert_allclose(rows.info[:, 9], (rows.info[:, 0] - 7.5) / 18, rtol=1e-5)


def test_a_start_frame_shifts_the_numbers_alone():
    frames = moving(2, 1, 22)
    late = TrajectoryParameters(kind="dt", start_frame=3, end_frame=20)
    rows, cut = run(frames, late), run(frames[3:21], DT)
    np.testing.assert_array_equal(rows.hof, cut.hof)
    np.testing.assert_array_equal(rows.info[:, 0], cut.info[:, 0] + 3)
    np.testing.assert_allclose(rows.info[:, 9], cut.info[:, 9], atol=1e-6)


def test_a_gap_resamples():
    rows = run(moving(2, 1, 26), TrajectoryParameters(kind="dt", init_gap=4))
    assert set(np.unique(rows.info[:, 0]).tolist()) == {15, 19, 23}


def test_times_are_set_afterwards_as_well():
    frames = moving(2, 1, 18)
    known = run(frames, DT)
    later = join(list(extract(frames, DT)))
    assert not later.info[:, 9].any()
    set_times(later.info, DT, len(frames))
    np.testing.assert_array_equal(later.info, known.info)


def test_flow_from_elsewhere():
    frames = moving(2, 0, 18)
    flow = np.zeros((2, 96, 128), np.float32)
    flow[0] = 2
    rows = run(frames, DT, flows=[flow] * 17)
    asked = run(frames, DT, flows=lambda before, after: flow)
    np.testing.assert_array_equal(rows.info, asked.info)
    steps = rows.trajectory.reshape(len(rows), -1, 2) * rows.info[:, 5, None, None]
    np.testing.assert_allclose(steps, np.broadcast_to([2, 0], steps.shape), atol=1e-3)
    # exactly the camera's motion, so that nothing is left of it
    pan = {t: np.array([[1, 0, 2], [0, 1, 0], [0, 0, 1]], float) for t in range(1, 18)}
    assert len(run(frames, IDT, flows=[flow] * 17, homographies=pan)) == 0
    with pytest.raises(ParameterError, match="frame 5"):
        run(frames, DT, flows=[flow] * 4)


def test_boxes_are_clipped_to_the_image():
    mask = box_mask((10, 12), np.array([[-5.0, -3.5, 2.0, 1.2], [10.5, 8, 40, 90]]))
    expected = np.ones((10, 12), np.uint8)
    expected[:2, :3] = 0
    expected[8:, 11:] = 0
    np.testing.assert_array_equal(mask, expected)
    assert box_mask((4, 4), None).all()


def test_boxes_are_read_by_frame_number(tmp_path):
    file = tmp_path / "clip.bb"
    file.write_text("4 1 2 3 4 0.9 5 6 7 8 0.8\n\n2\n")
    boxes = read_boxes(file)
    assert boxes[4].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert boxes[2].shape == (0, 4)
    for text, what in (("1 2 3", "line 1"), ("0\n0\n", "second for frame 0"), ("x", "line 1")):
        file.write_text(text)
        with pytest.raises(FormatError, match=what):
            read_boxes(file)


def test_boxes_keep_people_from_passing_for_the_camera():
    frames = moving(2, 0, 18, 120, 160)
    whole = {t: np.array([[-10.0, -10, 500, 500]]) for t in range(18)}
    # no matches are left, so that the motion is nobody's but the tracks'
    assert len(run(frames, IDT, boxes=whole)) > 100 > len(run(frames, IDT))


def test_bad_frames_and_parameters_are_refused():
    with pytest.raises(ParameterError, match="patch_size is 32"):
        run([np.zeros((24, 100, 3), np.uint8)], DT)
    with pytest.raises(ParameterError, match="uint8"):
        run([np.zeros((64, 64), np.uint8)], DT)
    with pytest.raises(ParameterError, match="frame 1 is 64x40"):
        run([np.zeros((40, 40, 3), np.uint8), np.zeros((40, 64, 3), np.uint8)], DT)
    with pytest.raises(ParameterError, match="homographies has none for frame 1"):
        run([np.zeros((40, 40, 3), np.uint8)] * 2, IDT, homographies={})
    for name, value in {
        "track_length": 2,
        "min_distance": 0,
        "nt_cell": 0,
        "quality": 1.5,
        "epsilon": 0,
        "kind": "sift",
        "end_frame": -1,
    }.items():
        with pytest.raises(ParameterError, match=name):
            TrajectoryParameters(**{name: value})


def test_live_tracks_are_shown_and_drawn():
    frames = moving(2, 1, 6)
    seen = []
    for _ in extract(frames, IDT, watch=lambda *shown: seen.append(shown)):
        pass
    assert len(seen) == 6
    frame, tracks, camera = seen[-1]
    np.testing.assert_array_equal(frame, frames[-1])
    assert max(len(points) for points in tracks) == 6
    assert camera.mean() > 0.9
    picture = draw_tracks(frame, tracks, camera)
    assert picture.shape == frame.shape
    assert not np.array_equal(picture, frame)
    np.testing.assert_array_equal(frame, frames[-1])
    line = [np.float32([[10, 10], [40, 10]])]
    black = np.zeros((20, 60, 3), np.uint8)
    blue, green, red = draw_tracks(black, line)[10, 20].tolist()
    assert green > 200 > blue + red
    assert min(draw_tracks(black, line, [True])[10, 20].tolist()) > 200
