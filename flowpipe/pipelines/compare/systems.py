"""The table of systems that are compared, from dense trajectories to transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flowpipe.errors import ParameterError
from flowpipe.models import MODELS
from flowpipe.models.entry import Model
from flowpipe.models.probes import PROBES
from flowpipe.pipelines.compare.classical import (
    STREAM,
    prepare_shuffled,
    prepare_tdd,
    prepare_trajectories,
)
from flowpipe.pipelines.compare.controls import prepare_clip_size
from flowpipe.pipelines.compare.frozen import (
    BACKBONE,
    prepare_one_frame,
    prepare_probe,
    prepare_svm,
)
from flowpipe.pipelines.compare.networks import NetworkSystem
from flowpipe.pipelines.compare.system import GROUPS, Group, System

__all__ = ["SYSTEMS", "System", "chosen"]

_TSN, _TWO = MODELS["tsn"], ("rgb", "flow")


def _network(network: NetworkSystem, group: Group, title: str, published: str) -> System:
    return System(group, title, published, network.streams, 4, network)


def _of_model(name: str, entry: Model) -> System:
    """Return a network of the table as a system."""
    streams: tuple[str, ...] = ("rgb",)
    if entry.takes == "snippets":
        streams = _TWO
    elif entry.takes == "both":
        streams = ("rgb+flow",)
    group: Group = "3d" if entry.takes == "frames" else "2d"
    if entry.finetune:
        group = "transformers"
    elif name.startswith(("deepvideo", "c2d")):
        group = "2d"
    # Those whose module is in the residual blocks of a ResNet.
    backbone = "resnet50" if name in ("stm", "non-local") else None
    residual = name == "tsm"  # its shifts are in residual blocks, of any network
    network = NetworkSystem(name, name, streams, backbone=backbone, residual=residual)
    return _network(network, group, entry.title, entry.published)


def _frozen(model: str, title: str, published: str) -> System:
    return System("frozen", title, published, ("features",), 3, partial(prepare_svm, model=model))


SYSTEMS: dict[str, System] = {
    "clip-size": System(
        "control", "width, height and length of a clip, nearest neighbours", "", ("size",), 0,
        prepare_clip_size,
    ),
    "one-frame": System(
        "control", "one frame of a clip: a feature of MobileNetV2, linear SVMs", "",
        ("features",), 3, prepare_one_frame,
    ),
    "shuffled-labels": System(
        "control", "idt with the labels of the training clips shuffled", "", (STREAM,), 2,
        prepare_shuffled,
    ),
    "dt": System(
        "classical", "dense trajectories, Fisher vectors, linear SVMs",
        "H. Wang et al., 'Dense Trajectories and Motion Boundary Descriptors', IJCV 2013",
        (STREAM,), 1, partial(prepare_trajectories, kind="dt"),
    ),
    "idt": System(
        "classical", "improved dense trajectories, Fisher vectors, linear SVMs",
        "H. Wang and C. Schmid, 'Action Recognition with Improved Trajectories', ICCV 2013",
        (STREAM,), 1, partial(prepare_trajectories, kind="idt"),
    ),
    "tdd": System(
        "classical", "maps of MobileNetV2 on frames, pooled along improved trajectories",
        "L. Wang et al., 'Trajectory-Pooled Deep-Convolutional Descriptors', CVPR 2015",
        (STREAM,), 5, prepare_tdd,
    ),
    "mobilenet-svm": _frozen(
        "mobilenet_v2", "the mean feature of MobileNetV2 on frames, linear SVMs",
        "M. Sandler et al., 'MobileNetV2', CVPR 2018",
    ),
    **{
        f"{name}-svm": _frozen(
            name, f"the mean feature of {name}, linear SVMs", MODELS[name].published
        )
        for name in ("c3d", "i3d", "r3d-18", "r2plus1d-18", "s3d", "mvit-v2-s", "swin3d-t")
    },
    **{
        f"{prefix}{name}": System(
            "frozen", f"maps of {network} on frames: {PROBES[head].title}",
            PROBES[head].published, ("maps",), 3, partial(prepare_probe, head=head, model=model),
        )
        for prefix, model, network in (("", BACKBONE, "MobileNetV2"), ("i3d-", "i3d", "I3D"))
        for name, head in (
            ("linear-probe", "linear"), ("attention-probe", "attention"), ("evl", "evl")
        )
    },
    "two-stream": _network(
        NetworkSystem("two-stream", "tsn", _TWO, (("segments", 1),), length=10),
        "2d", "one frame, and ten fields of flow",
        "K. Simonyan and A. Zisserman, 'Two-Stream Convolutional Networks', NIPS 2014",
    ),
    "tsn-warped": _network(
        NetworkSystem("tsn-warped", "tsn", ("warped-flow",)),
        "2d", "tsn on flow without the camera's motion", _TSN.published,
    ),
    **{name: _of_model(name, entry) for name, entry in MODELS.items()},
}  # fmt: skip
"""Systems by the name that a user types; a new one is a function and a line here."""


def chosen(names: Sequence[str]) -> list[str]:
    """Return the systems of some names and groups, in the order in which they are run.

    Parameters
    ----------
    names
        Names of systems and of groups; ``all`` is every system.

    Raises
    ------
    ParameterError
        There is none of that name, or no name is given.
    """
    if not names:
        raise ParameterError(f"no system is given; name some, or groups: all, {', '.join(GROUPS)}")
    wanted: set[str] = set()
    for name in names:
        members = {n for n, system in SYSTEMS.items() if name in ("all", n, system.group)}
        if not members:
            raise ParameterError(
                f"{name!r} is no system; there are the groups all, {', '.join(GROUPS)}, and "
                f"{', '.join(SYSTEMS)}"
            )
        wanted |= members
    return sorted(wanted, key=lambda name: (SYSTEMS[name].rank, list(SYSTEMS).index(name)))
