"""Run the networks of a system: training and tests, split by split, within the budget."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from flowpipe.classify.scores import Scores
from flowpipe.errors import BackendUnavailableError
from flowpipe.models.cost import network_cost
from flowpipe.models.stream import StreamNetwork
from flowpipe.pipelines import evaluate, train
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison, Cost, NotAvailableError
from flowpipe.pipelines.labelled import LabelledFlow, with_usable_clips
from flowpipe.runner.provenance import short_hash
from flowpipe.training.parameters import Stream
from flowpipe.training.testing import Testing

_BACKWARD = 3
"""Multiply-adds of a training step, in those of a forward pass."""


def run_networks(
    on: Comparison,
    system: str,
    streams: Mapping[str, Stream],
    testing: Testing,
    meter: Meter,
) -> Mapping[str, Scores]:
    """Train and test the networks of a system, as far as they have not been; return their scores.

    Raises
    ------
    NotAvailableError
        Their weights cannot be downloaded.
    OverBudgetError
        The rest does not fit into the budget.
    FlowpipeError
        The weights are of another network, or clips do not fit it.
    """
    classes = [len(on.protocol.classes)]
    for stream in streams.values():  # before any flow is computed for it
        try:
            train.check_network(stream, classes, on.runtime.device)
        except BackendUnavailableError as error:
            raise NotAvailableError(str(error)) from None
    scores, done, total = {}, 0, len(streams) * len(on.protocol.splits)
    for name, stream in streams.items():
        flow = on.shared.get(on, "warped-flow" if name == "warped-flow" else "flow")
        labelled = with_usable_clips(
            LabelledFlow(on.dataset, on.protocol, flow),
            [split.name for split in on.protocol.splits],
            stream.clip,
            test=True,
            leave_out=True,
        )
        described = train.description_of([labelled], stream)
        trained = on.out / f"train-{system}-{name}-{short_hash(described)}"
        meter.uses(trained)
        for split in labelled.protocol.splits:
            meter.require(f"training for the {total - done} networks that are left")
            with meter.part("training"):
                train.train_networks(
                    [labelled], stream, trained, splits=[split.name], runtime=on.runtime
                )
            done += 1
            # Tests take a share of the time, too, which is not known yet.
            meter.finished(0.9 * done / total)
        key = short_hash(evaluate.description_of(trained, labelled, testing))
        tested = on.out / f"evaluate-{system}-{name}-{key}"
        meter.uses(tested)
        with meter.part("test"):
            scores[name] = evaluate.score_networks(
                trained, labelled, testing, tested, runtime=on.runtime
            )
    return scores


def cost_of_networks(on: Comparison, streams: Mapping[str, Stream], testing: Testing) -> Cost:
    """Return what the networks take."""
    tests = sum(len(split.test) for split in on.protocol.splits)
    trained = sum(len(split.train) for split in on.protocol.splits)
    parameters, of_a_clip, work = 0, 0, 0.0
    for stream in streams.values():
        cost = network_cost(stream.network, stream.clip, len(on.protocol.classes))
        with torch.device("meta"):
            network = StreamNetwork(stream.network, stream.clip, [len(on.protocol.classes)])
        views = testing.of(network)
        # Of all frames at once, as many clips are counted as the network sees in training: one.
        clips = 1 if views.test_clips == "all" else views.test_clips
        scale = (views.crop_size / stream.clip.input_size) ** 2
        whole = cost.multiply_adds
        if network.takes == "snippets" and not network.joins_segments:
            whole //= stream.clip.segments
        seen = round(clips * views.crops * scale * whole)
        parameters += cost.parameters
        of_a_clip += seen
        work += _BACKWARD * stream.training.epochs * trained * cost.multiply_adds + tests * seen
    return Cost(parameters, of_a_clip, work)
