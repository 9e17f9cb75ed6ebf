"""Gather the results of a comparison: ``metrics.json``, ``measurements.json`` and the page."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from flowpipe import __version__
from flowpipe.classify.comparison import Member, Result, Statistics, statistics
from flowpipe.classify.metrics import LEVEL, interval_json
from flowpipe.classify.paired import Accuracy, adjusted, protocol_tests
from flowpipe.pipelines.compare.measure import disk_of
from flowpipe.pipelines.compare.plan import Step
from flowpipe.pipelines.compare.stored import Stored
from flowpipe.pipelines.compare.system import GROUPS, Comparison, Cost
from flowpipe.report.comparison import NotRun, Page, Row, SharedRow, write_comparison
from flowpipe.report.thumbnails import thumbnail_strip
from flowpipe.runner import atomic, json_files
from flowpipe.runner.json_files import Json

RESULTS = ("index.html", "metrics.json", "measurements.json")
TITLES = {
    "control": "controls: no motion or no appearance",
    "classical": "trajectories",
    "frozen": "frozen networks",
    "2d": "2-D networks",
    "3d": "3-D networks",
    "transformers": "transformers",
}
_FUSIONS_KEPT = 100


def write_results(on: Comparison, done: Sequence[Step], not_run: Sequence[NotRun]) -> Statistics:
    """Write the results of the systems that have been run, and what was not run.

    ``metrics.json`` has what follows from clips and settings alone; times, sizes and energy are in
    ``measurements.json``. The page has both.
    """
    members = {}
    kept: dict[str, Stored] = {}
    for step in done:
        assert step.stored is not None
        kept[step.name] = step.stored
        weights = {stream: on.settings.weight(stream) for stream in step.streams}
        members[step.name] = Member(
            step.system.group, weights, partial(step.stored.scores, protocol=on.protocol)
        )
    found = statistics(members, protocol_tests(on.protocol))
    costs = {name: each.cost() for name, each in kept.items()}
    measured = _measured(on, done)
    atomic.write_atomic(
        on.out / "metrics.json",
        json_files.to_json(_metrics(on, found, kept, costs, not_run)),
        on.out,
    )
    atomic.write_atomic(
        on.out / "measurements.json",
        json_files.to_json({**measured, "machine": machine(on)}),
        on.out,
    )
    write_comparison(
        on.out / "index.html", _page(on, found, kept, costs, measured, not_run), on.out
    )
    return found


def _metrics(
    on: Comparison,
    found: Statistics,
    kept: Mapping[str, Stored],
    costs: Mapping[str, Cost | None],
    not_run: Sequence[NotRun],
) -> Json:
    tests = found.tests
    missed = found.missed_by_all()
    values = adjusted([pair.p for pair in found.pairs.values()])
    return {
        "set": on.dataset.name,
        "protocol": on.protocol.name,
        "notes": list(on.protocol.notes),
        "splits": list(tests.splits),
        "tests": len(tests),
        "classes": list(tests.classes),
        "chance": 1 / len(tests.classes),
        "confidence": LEVEL,
        "weights_in_fusion": _named_weights(on),
        "systems": {name: _system(kept[name], costs[name], found) for name in found.systems},
        "fusions": [
            {"systems": list(each.members), **_accuracy(each.result.accuracy)}
            for each in found.fusions[:_FUSIONS_KEPT]
        ],
        "fusions_tried": len(found.fusions),
        "pairs": [
            {
                "first": first,
                "second": second,
                "first_only": pair.first_only,
                "second_only": pair.second_only,
                "differ": pair.differ,
                "p": pair.p,
                "p_adjusted": p,
            }
            for ((first, second), pair), p in zip(found.pairs.items(), values, strict=True)
        ],
        "missed_by_all": [
            {"clip": tests.names[index], "split": tests.splits[tests.split[index]]}
            for index in missed
        ],
        "not_run": {each.name: {"kind": each.kind, "reason": each.reason} for each in not_run},
    }


def _system(stored: Stored, cost: Cost | None, found: Statistics) -> Json:
    result = found.systems[stored.name]
    joined = result.with_partner
    return {
        "group": stored.system.group,
        "title": stored.system.title,
        "published": stored.system.published,
        **_result(result.whole),
        "streams": {name: _result(each) for name, each in result.streams.items()},
        "with_idt": None if joined is None else _result(joined),
        "parameters": None if cost is None else cost.parameters,
        "multiply_adds": None if cost is None else cost.multiply_adds,
        "settings_tried": stored.tried(),
        "settings": stored.settings,
    }


def _result(result: Result) -> Json:
    return {**_accuracy(result.accuracy), "unscored": result.unscored}


def _accuracy(accuracy: Accuracy) -> Json:
    return {
        "accuracy": interval_json(accuracy.accuracy),
        "mean_accuracy": interval_json(accuracy.mean_accuracy),
        "mean_class_accuracy": accuracy.mean_class_accuracy,
    }


def _named_weights(on: Comparison) -> dict[str, float]:
    frames, flow, svms = on.settings.weights_in_fusion
    return {"frames": frames, "flow": flow, "SVMs": svms}


def _measured(on: Comparison, done: Sequence[Step]) -> Json:
    """Return what was measured of each system, and of the shared stages."""
    needs = {need: on.shared.folder(on, need) for step in done for need in _needs(on, step)}
    features = set()
    systems: Json = {}
    for step in done:
        assert step.stored is not None
        found = on.meter(step.stored.job).read()
        shared = [needs[need].name for need in _needs(on, step)]
        # Features are shared by those systems that read them.
        read = [name for name in found["folders"] if name.startswith("features-")]
        features |= set(read)
        own = [name for name in found["folders"] if name not in read]
        systems[step.name] = {
            "seconds": found["parts"],
            "joules": found["joules"],
            "disk": disk_of(on.out, [step.stored.folder.name, *own]),
            "shared": [*shared, *read],
        }
    stages = {}
    for name in [*(path.name for path in needs.values()), *sorted(features)]:
        found = on.meter(name).read()
        stages[name] = {
            "seconds": sum(found["parts"].values()),
            "joules": found["joules"],
            "disk": disk_of(on.out, [name]),
        }
    return {"systems": systems, "shared": stages}


def _needs(on: Comparison, step: Step) -> tuple[Any, ...]:
    """Return the shared stages that a system reads, and that were computed here."""
    if step.prepared is None:
        return ()
    return tuple(
        need
        for need in step.prepared.needs
        if not (need == "flow" and on.shared.given_flow is not None)
    )


def _page(
    on: Comparison,
    found: Statistics,
    kept: Mapping[str, Stored],
    costs: Mapping[str, Cost | None],
    measured: Json,
    not_run: Sequence[NotRun],
) -> Page:
    shared = measured["shared"]
    rows = {}
    for name, stored in kept.items():
        of_system, cost = measured["systems"][name], costs[name]
        before = sum(shared[each]["seconds"] for each in of_system["shared"])
        own = of_system["seconds"]
        known = before + own.get("extraction", 0.0)
        per_clip = known / max(1, len(on.clips)) + own.get("test", 0.0) / max(1, len(found.tests))
        rows[name] = Row(
            stored.system.group,
            stored.system.title,
            stored.system.published,
            _flat(stored.settings),
            stored.tried(),
            None if cost is None else cost.parameters,
            None if cost is None else cost.multiply_adds,
            own,
            before,
            per_clip or None,
            "test" not in own,
            of_system["disk"],
            of_system["joules"],
        )
    videos = {clip.name: clip.path for clip in on.clips}
    return Page(
        f"{on.dataset.name}: systems side by side",
        on.protocol.name,
        found,
        rows,
        {group: TITLES[group] for group in GROUPS},
        not_run,
        {
            "protocol": on.protocol.name,
            "weights of scores in every fusion": ", ".join(
                f"{name} {weight:g}" for name, weight in _named_weights(on).items()
            ),
            "seed": on.settings.seed,
            "recipe of networks": on.settings.recipe,
            **(
                {}
                if on.shared.given_flow is None
                else {"flow and frames": "computed before, so that their time is not counted"}
            ),
        },
        on.protocol.notes,
        [
            SharedRow(name, each["seconds"], each["disk"], each["joules"])
            for name, each in shared.items()
        ],
        machine(on),
        lambda name: _thumbnail(os.fspath(videos[name])) if name in videos else None,
    )


@lru_cache(maxsize=256)
def _thumbnail(path: str) -> bytes | None:
    # The page is written after each system, and most of the clips are the same.
    return thumbnail_strip(Path(path))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their names, joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{key}.")
        else:
            flat[key] = value
    return flat


def machine(on: Comparison) -> dict[str, str]:
    """Return what the measurements were made on."""
    return {
        "flowpipe": __version__,
        "Python": platform.python_version(),
        "computer": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device of networks": on.runtime.device,
    }
