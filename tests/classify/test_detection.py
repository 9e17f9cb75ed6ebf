from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.classify.detection import Detection, interval_metrics, temporal_overlap
from flowpipe.datasets.intervals import Interval
from flowpipe.errors import ParameterError

CLASSES = ("jump", "run")

# An example whose numbers the published evaluators gave: ActivityNet's of its GitHub repository,
# and THUMOS'14's TH14evalDet, transcribed line by line.
TRUTH = {
    "a": [Interval(10, 20, "run"), Interval(30, 45, "run"), Interval(12, 18, "jump")],
    "b": [Interval(0, 8, "run"), Interval(50, 60, "jump"), Interval(61, 70, "jump")],
    "c": [Interval(5, 9, "run")],
}
AMBIGUOUS = {"b": [Interval(20, 30, "Ambiguous")]}
FOUND = {
    "a": [
        Detection(11, 21, "run", 0.95),
        Detection(9, 19, "run", 0.9),
        Detection(31, 40, "run", 0.85),
        Detection(28, 50, "run", 0.5),
        Detection(12, 19, "jump", 0.9),
    ],
    "b": [
        Detection(22, 28, "run", 0.8),
        Detection(1, 6, "run", 0.7),
        Detection(48, 62, "jump", 0.8),
        Detection(52, 70, "jump", 0.75),
        Detection(51, 59, "jump", 0.3),
    ],
    "c": [Detection(5, 11, "run", 0.6), Detection(1, 3, "jump", 0.4)],
    "d": [Detection(0, 5, "run", 0.55)],
}
ACTIVITYNET = [[1, 0.75], [1, 0.75], [1, 0.75], [0.6666666666666666, 0.75]]
ACTIVITYNET += [[0.6666666666666666, 0.25]]
THUMOS14 = [[0.7555555555555555, 0.6], [0.7555555555555555, 0.6], [0.4666666666666666, 0.6]]
THUMOS14 += [[0.4666666666666666, 0.6], [0.4666666666666666, 0.25]]
THUMOS14_AMBIGUOUS = [[0.7555555555555555, 0.6678571428571429]] * 2
THUMOS14_AMBIGUOUS += [[0.4666666666666666, 0.6678571428571429]] * 2
THUMOS14_AMBIGUOUS += [[0.4666666666666666, 0.25]]


def random_example():
    """20 videos of 6 intervals and 4 detections near each, some of the wrong class."""
    rng = np.random.default_rng(7)
    truth, found, ambiguous = {}, {}, {}
    for video in range(20):
        name = f"v{video:02d}"
        truth[name], found[name] = [], []
        for _ in range(6):
            label = CLASSES[int(rng.integers(2))]
            start = float(rng.integers(0, 300)) / 2
            end = start + float(rng.integers(4, 40)) / 2
            truth[name].append(Interval(start, end, label))
            for _ in range(4):
                first, last = start + float(rng.normal(0, 2)), end + float(rng.normal(0, 2))
                if last > first:
                    drawn = CLASSES[int(rng.integers(2))] if rng.random() < 0.3 else label
                    found[name].append(Detection(first, last, drawn, float(rng.random())))
    for video in range(20):
        start = float(rng.integers(0, 150))
        ambiguous[f"v{video:02d}"] = [Interval(start, start + 10, "Ambiguous")]
    return truth, found, ambiguous


RANDOM_ACTIVITYNET = [
    [0.6619542120108051, 0.614317696117991],
    [0.6339208706180351, 0.5402267996433887],
    [0.6096545196943074, 0.4853540106736937],
    [0.4456121165970232, 0.4283889390763737],
    [0.3511349501414758, 0.39320309989668456],
]
RANDOM_THUMOS14 = [
    [0.3161145443679669, 0.2891666899415182],
    [0.3161145443679669, 0.2518767191405066],
    [0.3161145443679669, 0.24355638168152682],
    [0.24679906662939113, 0.23920798516535743],
    [0.2066983469220311, 0.23265231513521345],
]


@pytest.mark.parametrize(
    ("rules", "ambiguous", "numbers"),
    [
        ("activitynet", None, ACTIVITYNET),
        ("thumos14", None, THUMOS14),
        ("thumos14", AMBIGUOUS, THUMOS14_AMBIGUOUS),
    ],
)
def test_the_numbers_of_the_published_evaluators(rules, ambiguous, numbers):
    found = interval_metrics(TRUTH, FOUND, CLASSES, rules=rules, ambiguous=ambiguous)
    np.testing.assert_allclose(found.average_precision, numbers, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.mean_average_precision, np.mean(numbers, axis=1), atol=1e-12)
    assert found.average == pytest.approx(np.mean(numbers))
    np.testing.assert_array_equal(found.positives, [3, 4])


def test_the_numbers_of_the_published_evaluators_on_many_intervals():
    truth, found, ambiguous = random_example()
    ours = interval_metrics(truth, found, CLASSES)
    np.testing.assert_allclose(ours.average_precision, RANDOM_ACTIVITYNET, rtol=0, atol=1e-12)
    ours = interval_metrics(truth, found, CLASSES, rules="thumos14", ambiguous=ambiguous)
    np.testing.assert_allclose(ours.average_precision, RANDOM_THUMOS14, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rules", ["activitynet", "thumos14"])
def test_a_second_detection_of_an_interval_is_wrong(rules):
    truth = {"a": [Interval(0, 10, "run")]}
    first, second = Detection(0, 9, "run", 0.9), Detection(0, 10, "run", 0.8)
    found = interval_metrics(truth, {"a": [first, second]}, ["run"], (0.5,), rules)
    # ActivityNet gives the interval to the surer detection, THUMOS to that which fits better
    assert found.average_precision[0, 0] == (1.0 if rules == "activitynet" else 0.5)


def test_an_overlap_of_the_threshold_counts_for_activitynet_alone():
    truth, found = {"a": [Interval(0, 10, "run")]}, {"a": [Detection(0, 5, "run", 1.0)]}
    for rules, expected in (("activitynet", 1.0), ("thumos14", 0.0)):
        metrics = interval_metrics(truth, found, ["run"], (0.5,), rules)
        assert metrics.average_precision[0, 0] == expected


times = st.tuples(st.integers(0, 30), st.integers(1, 10))
an_example = st.lists(
    st.tuples(st.sampled_from("ab"), times, st.sampled_from(CLASSES), st.integers(0, 1000)),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[3],
)


def by_video(rows, make):
    made = {}
    for video, (start, length), label, score in rows:
        made.setdefault(video, []).append(make(start, start + length, label, score))
    return made


def interval(start, end, label, score):
    return Interval(start, end, label)


@given(an_example, an_example, st.sampled_from(["activitynet", "thumos14"]))
def test_properties_of_average_precision(true_rows, rows, rules):
    truth, found = by_video(true_rows, interval), by_video(rows, Detection)
    whole = interval_metrics(truth, found, CLASSES, rules=rules)
    known = ~np.isnan(whole.average_precision)
    np.testing.assert_array_equal(known, np.broadcast_to(whole.positives > 0, known.shape))
    assert ((whole.average_precision[known] >= 0) & (whole.average_precision[known] <= 1)).all()
    # neither the order of the detections nor the scale of their scores matters
    turned = {
        video: [Detection(d.start, d.end, d.label, d.score / 7 - 3) for d in part[::-1]]
        for video, part in found.items()
    }
    again = interval_metrics(truth, turned, CLASSES, rules=rules)
    np.testing.assert_array_equal(again.average_precision, whole.average_precision)


@given(an_example)
def test_the_truth_is_perfect_and_nothing_is_zero(rows):
    distinct = list({row[:3]: row for row in rows}.values())
    truth = by_video(distinct, interval)
    perfect = interval_metrics(truth, by_video(distinct, Detection), CLASSES)
    assert set(perfect.mean_average_precision) == {1.0}
    nothing = interval_metrics(truth, {}, CLASSES)
    assert set(nothing.mean_average_precision) == {0.0}


def test_a_class_without_intervals_is_left_out_of_the_mean():
    truth, found = {"a": [Interval(0, 10, "run")]}, {"a": [Detection(0, 10, "jump", 1.0)]}
    metrics = interval_metrics(truth, found, CLASSES, (0.5,))
    np.testing.assert_array_equal(metrics.average_precision, [[np.nan, 0.0]])
    assert metrics.to_json() == {
        "rules": "activitynet",
        "mean_average_precision": 0.0,
        "overlaps": [{"overlap": 0.5, "mean_average_precision": 0.0}],
        "classes": [
            {"class": "jump", "intervals": 0, "average_precision": [None]},
            {"class": "run", "intervals": 1, "average_precision": [0.0]},
        ],
    }
    assert math.isnan(interval_metrics({}, found, CLASSES, (0.5,)).average)


def test_overlaps_of_intervals():
    first = np.array([[0.0, 10.0], [2.0, 4.0]])
    second = np.array([[5.0, 15.0], [0.0, 10.0], [10.0, 12.0]])
    expected = [[5 / 15, 1, 0], [0, 0.2, 0]]
    np.testing.assert_allclose(temporal_overlap(first, second), expected)
    assert temporal_overlap(first, np.zeros((0, 2))).shape == (2, 0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="rules is 'coco'; it must be one of activitynet"):
        interval_metrics(TRUTH, FOUND, CLASSES, rules="coco")
    with pytest.raises(ParameterError, match="overlap is 0"):
        interval_metrics(TRUTH, FOUND, CLASSES, (0,))
    with pytest.raises(ParameterError, match=r"labels \['jump'\] are not among the classes"):
        interval_metrics(TRUTH, FOUND, ["run"])
    for wrong in ((2, 1, 0.5), (0, math.inf, 0.5), (0, 1, math.nan)):
        with pytest.raises(ParameterError, match="finite numbers, and end after its start"):
            Detection(wrong[0], wrong[1], "run", wrong[2])
