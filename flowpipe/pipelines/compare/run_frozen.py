"""Run systems on networks that are not trained: features, and linear SVMs on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flowpipe.classify.parameters import Svm
from flowpipe.classify.scores import Scores, load_scores
from flowpipe.errors import BackendUnavailableError
from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.cost import network_cost
from flowpipe.models.network import Network
from flowpipe.models.probes import Probe
from flowpipe.pipelines.classify_features import Reduce, score_vectors, vectors_of
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison, Cost, NotAvailableError
from flowpipe.pipelines.features import extract_features
from flowpipe.pipelines.labelled import without_clips
from flowpipe.pipelines.probe import probe as train_probe
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import short_hash
from flowpipe.training.features.sources import PublishedNetwork
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.probe_parameters import ProbeTraining


def extract(
    on: Comparison, published: PublishedNetwork, stage: FeatureStage, settings: Json, meter: Meter
) -> Path:
    """Compute features or maps of a published network, as far as missing; return their folder.

    Raises
    ------
    NotAvailableError
        Its weights cannot be downloaded.
    OverBudgetError
        The rest does not fit into the budget.
    FlowpipeError
        The weights are of another network.
    """
    try:
        published.with_length(stage.length).load()
    except BackendUnavailableError as error:
        raise NotAvailableError(str(error)) from None
    source = on.shared.get(on, "flow")
    out = on.out / f"features-{published.model}-{short_hash(settings)}"
    own = on.meter(out.name)
    own.uses(out)
    meter.uses(out)
    own.require(f"the extraction of features of {published.model}")
    with own.part("extraction"):
        extract_features(
            source, out, None, stage, published, device=on.runtime.device, workers=on.workers
        )
    own.finished(1)
    return out


def run_svm(on: Comparison, folder: Path, reduced: Reduce, meter: Meter) -> Scores:
    """Return the scores of linear SVMs on a vector of each clip, made of its features."""
    with meter.part("training"):
        vectors, missing = vectors_of(folder, [clip.name for clip in on.clips], reduced)
        protocol = without_clips(on.protocol, missing) if missing else on.protocol
        threads = max(1, on.workers.local_jobs)
        return score_vectors(protocol, [vectors], Svm(), threads=threads)


def run_probe(
    on: Comparison, maps: Path, probe: Probe, training: ProbeTraining, meter: Meter
) -> Scores:
    """Train heads on maps, and return their scores."""
    made_of = {"maps": provenance.read_stage(maps), "clips": on.clip_digest}
    settings = {**made_of, **asdict(probe), **asdict(training)}
    out = on.out / f"probe-{probe.head}-{short_hash(settings)}"
    meter.uses(out)
    with meter.part("training"):
        train_probe(
            on.dataset,
            [maps],
            out,
            probe,
            training,
            protocol=on.protocol,
            device=on.runtime.device,
            checkpoint_every=on.runtime.checkpoint_every,
            leave_out_unusable=True,
        )
    return load_scores(out / "scores.npz")


def cost_of_frozen(on: Comparison, model: str) -> Cost:
    """Return what a network takes for one window; a clip has as many as its length gives."""
    if model in MODELS:
        network, clip = Network(model), MODELS[model].suited(ClipInput("rgb", 1, 1))
    else:
        network, clip = Network(backbone=model), ClipInput("rgb", 1, 1)
    cost = network_cost(network, clip, len(on.protocol.classes))
    return Cost(cost.parameters, cost.multiply_adds, 0.0)
