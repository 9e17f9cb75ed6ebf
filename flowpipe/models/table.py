"""The table of networks: how each is built, what it sees, and where it is published."""

from __future__ import annotations

from functools import partial
from typing import Any

from flowpipe.errors import ParameterError
from flowpipe.models import build, papers, recipes
from flowpipe.models.entry import PYSLOWFAST, Model, Normalisation, frames_of
from flowpipe.models.table_torchvision import VIDEO_NETWORKS

# torch is imported by the functions that build networks: the command line reads the table.

__all__ = ["MODELS", "Model", "model"]


def model(name: str) -> Model:
    """Return the entry of a name.

    Raises
    ------
    ParameterError
        There is none.
    """
    if name not in MODELS:
        raise ParameterError(f"model is {name!r}; it must be one of {', '.join(MODELS)}")
    return MODELS[name]


_UNIT: Normalisation = ((127.5,) * 3, (127.5,) * 3)
_BGR: Normalisation = ((104.0, 117.0, 128.0), (1.0,) * 3)
# The mean of each channel of the cube that C3D's release subtracts.
_SPORTS1M: Normalisation = ((90.0, 98.0, 102.0), (1.0,) * 3)
_CLIP: Normalisation = ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323))


def _segments_of(count: int, length: int = 1) -> tuple[tuple[str, Any], ...]:
    return (("segments", count), ("length", length), ("input_size", 224))


_IMAGES = "torchvision's of the backbone, by name (--weights)"
_FILE = "a file of "

MODELS: dict[str, Model] = {
    "tsn": Model(
        build.segment_network,
        "snippets",
        "temporal segment network: the consensus of snippets from all parts of a clip",
        "L. Wang et al., 'Temporal Segment Networks', ECCV 2016",
        "UCF101 94.0, HMDB51 68.5 (two-stream, BN-Inception)",
        recipe=recipes.TSN,
        views=recipes.TSN_VIEWS,
        weights=_IMAGES + ", or a file of tsn-pytorch or mmaction2",
    ),
    "tsm": Model(
        partial(build.with_modules, insert=build.insert_shifts),
        "snippets",
        "channels shifted between neighbouring segments, in every residual block",
        papers.TSM,
        "Kinetics-400 74.1 (ResNet-50, 8 frames)",
        relates_segments=True,
        input=(("segments", 8),),
        recipe=recipes.TSM,
        views=recipes.THIRTY,
        weights=_IMAGES + ", or a file of TSM or mmaction2",
    ),
    "trn": Model(
        build.segment_network,
        "snippets",
        "an MLP on the features of all segments, in their order",
        papers.TRN,
        head=build.relation,
        relates_segments=True,
        input=(("segments", 8),),
        recipe=recipes.TRN,
        views=recipes.TRN_VIEWS,
        weights=_IMAGES,
    ),
    "trn-multiscale": Model(
        build.segment_network,
        "snippets",
        "MLPs on the features of 2, 3, ... and all segments",
        papers.TRN,
        "Something-Something v2 48.8 (RGB)",
        head=build.relations,
        relates_segments=True,
        input=(("segments", 8),),
        recipe=recipes.TRN,
        views=recipes.TRN_VIEWS,
        weights=_IMAGES,
    ),
    "lrcn": Model(
        build.segment_network,
        "snippets",
        "an LSTM on the features of the segments",
        "J. Donahue et al., 'Long-term Recurrent Convolutional Networks', CVPR 2015",
        "UCF101 82.3 (RGB and flow)",
        head=build.recurrent,
        relates_segments=True,
        input=(("segments", 16),),
        recipe=recipes.LRCN,
        weights=_IMAGES,
    ),
    "stm": Model(
        partial(build.with_modules, insert=build.insert_motion),
        "snippets",
        "convolution over segments and encoded motion in every bottleneck of a ResNet",
        "B. Jiang et al., 'STM: SpatioTemporal and Motion Encoding', ICCV 2019",
        "UCF101 96.2, HMDB51 72.2",
        relates_segments=True,
        input=(("segments", 8),),
        views=recipes.THIRTY,
        weights=_IMAGES,
    ),
    "tea": Model(
        build.tea,
        "snippets",
        "motion excitation and temporal aggregation in a Res2Net-50",
        "Y. Li et al., 'TEA: Temporal Excitation and Aggregation', CVPR 2020",
        "UCF101 96.9, HMDB51 73.3",
        relates_segments=True,
        input=(("segments", 8),),
        recipe=recipes.TEA,
        views=recipes.THIRTY,
    ),
    "non-local": Model(
        partial(build.with_modules, insert=build.insert_non_local),
        "snippets",
        "five blocks of a ResNet attend over all places of all segments",
        papers.NON_LOCAL,
        relates_segments=True,
        input=(("segments", 8),),
        recipe=recipes.NON_LOCAL,
        views=recipes.THIRTY,
        weights=_IMAGES,
    ),
    "two-stream-fusion": Model(
        build.stream_fusion,
        "both",
        "frames and flow joined by a 3-D convolution at their last maps",
        "C. Feichtenhofer et al., 'Convolutional Two-Stream Network Fusion', CVPR 2016",
        "UCF101 92.5, HMDB51 65.4 (VGG-16)",
        head=build.both_heads,
        relates_segments=True,
        input=(("modality", "rgb+flow"), *_segments_of(5, length=10)),
        recipe=recipes.FUSION,
        weights="networks of train, --weights for frames and --flow-weights for flow; or "
        "torchvision's of the backbone, by name",
    ),
    "tdn": Model(
        build.tdn,
        "segments",
        "differences of neighbouring frames and of segments in a ResNet-50",
        "L. Wang et al., 'TDN: Temporal Difference Networks', CVPR 2021",
        "UCF101 97.4, HMDB51 76.3",
        relates_segments=True,
        input=_segments_of(8, length=5),
        recipe=recipes.TDN,
        views=recipes.THIRTY,
        weights=_FILE + "TDN; or torchvision's of resnet50, ImageNet, by name",
        torchvision="resnet50",
        names=build.renaming("tdn", "own_names"),
        paired=True,
    ),
    "eco-lite": Model(
        partial(build.eco, full=False),
        "segments",
        "a 2-D network per frame, a 3-D network on its maps",
        papers.ECO,
        "UCF101 91.6 (16 frames)",
        relates_segments=True,
        input=_segments_of(16),
        normalisation=_BGR,
        bgr=True,
        recipe=recipes.ECO,
        views=recipes.CENTRE,
        weights=_FILE + "ECO-pytorch",
    ),
    "eco-full": Model(
        partial(build.eco, full=True),
        "segments",
        "eco-lite, and the average of the 2-D network's features",
        papers.ECO,
        "UCF101 92.8 (16 frames)",
        relates_segments=True,
        input=_segments_of(16),
        normalisation=_BGR,
        bgr=True,
        recipe=recipes.ECO,
        views=recipes.CENTRE,
        weights=_FILE + "ECO-pytorch",
    ),
    **{
        f"deepvideo-{joining}": Model(
            partial(build.deepvideo, joining=joining),
            "frames",
            f"an early network on RGB frames, {how}",
            papers.DEEPVIDEO,
            accuracy,
            input=frames_of(frames, 170),
        )
        for joining, how, frames, accuracy in (
            ("single", "one at a time", 1, "Sports-1M 59.3 (video hit@1)"),
            ("early", "joined in the first layer", 10, "Sports-1M 57.7"),
            ("late", "two of them joined before the last layers", 16, "Sports-1M 59.3"),
            ("slow", "joined in steps", 10, "Sports-1M 60.9; UCF101 65.4"),
        )
    },
    "c3d": Model(
        build.c3d,
        "frames",
        "eight 3-D convolutions on 16 frames",
        "D. Tran et al., 'Learning Spatiotemporal Features with 3D CNNs', ICCV 2015",
        "UCF101 82.3 (fc6 and a linear SVM)",
        input=frames_of(16, 112, short="loop"),
        fixed_size=True,
        normalisation=_SPORTS1M,
        bgr=True,
        layers=("fc6", "fc7"),
        names=build.renaming("c3d", "own_names"),
        recipe=recipes.C3D,
        views=recipes.TEN,
        weights=_FILE + "mmaction2 or C3D-pytorch",
    ),
    "i3d": Model(
        build.i3d,
        "frames",
        "Inception-v1 inflated to 3-D",
        "J. Carreira and A. Zisserman, 'Quo Vadis, Action Recognition?', CVPR 2017",
        "UCF101 95.6 RGB, 96.7 flow, 98.0 both (Kinetics)",
        input=frames_of(64, short="loop"),
        normalisation=_UNIT,
        recipe=recipes.I3D,
        views=recipes.WHOLE,
        any_length=True,
        weights=_FILE + "pytorch-i3d; or torchvision's of googlenet, ImageNet, by name",
        torchvision="googlenet",
        names=build.renaming("i3d", "own_names"),
    ),
    **{
        name: Model(
            partial(build.resnet3d, architecture=architecture),
            "frames",
            title,
            published,
            accuracy,
            input=frames_of(frames, stride=2 if frames == 32 else 8, short="repeat"),
            recipe=recipes.SLOWFAST,
            views=recipes.SLOWFAST_VIEWS,
            any_length=True,
            weights=_FILE
            + "SlowFast's release or pytorchvideo"
            + ("" if frames == 32 else "; or torchvision's of resnet50, ImageNet, by name"),
            torchvision="" if frames == 32 else "resnet50",
            names=build.renaming("resnet3d_names", "own_names"),
            normalisation=PYSLOWFAST,
            paired=name.startswith("slowfast"),
            alpha={"slowfast-r50-8x8": 4, "slowfast-r50-4x16": 8}.get(name),
        )
        for name, architecture, frames, title, published, accuracy in (
            ("c2d-r50", "C2D_R50", 8, "a 2-D ResNet-50 that pools over time", papers.NON_LOCAL, ""),
            (
                "i3d-r50",
                "I3D_R50",
                8,
                "a ResNet-50 inflated to 3-D",
                papers.NON_LOCAL,
                "Kinetics-400 73.5",
            ),
            (
                "i3d-r50-non-local",
                "I3D_R50_NON_LOCAL",
                8,
                "i3d-r50 with five non-local blocks",
                papers.NON_LOCAL,
                "Kinetics-400 74.0",
            ),
            ("slow-r50", "SLOW_R50", 8, "the slow pathway alone", papers.SLOWFAST_PAPER, ""),
            (
                "slowfast-r50-8x8",
                "SLOWFAST_R50_8X8",
                32,
                "a slow pathway and a light, fast one",
                papers.SLOWFAST_PAPER,
                "Kinetics-400 77.0",
            ),
            (
                "slowfast-r50-4x16",
                "SLOWFAST_R50_4X16",
                32,
                "slowfast with half as many slow frames",
                papers.SLOWFAST_PAPER,
                "Kinetics-400 75.6",
            ),
        )
    },
    **{
        f"timesformer-{attention}": Model(
            partial(build.timesformer, attention=attention),
            "segments",
            f"a vision transformer, {how}",
            papers.TIMESFORMER,
            accuracy,
            relates_segments=True,
            input=_segments_of(8),
            recipe=recipes.TIMESFORMER,
            views=recipes.TIMESFORMER_VIEWS,
            fixed_size=True,
            weights=_FILE + "TimeSformer's release or transformers; or torchvision's of vit_b_16, "
            "ImageNet, by name",
            torchvision="vit_b_16",
            finetune=recipes.TRANSFORMER,
            names=build.renaming("timesformer", "own_names", "from_torchvision"),
            normalisation=PYSLOWFAST,
            maskable=True,
        )
        for attention, how, accuracy in (
            ("divided", "attention over time, then over space", "Kinetics-400 77.9"),
            ("joint", "attention over space and time at once", ""),
            ("space", "attention in each frame alone", ""),
        )
    },
    "vidtr": Model(
        build.vidtr,
        "segments",
        "a vision transformer, attention over time and space in turn, frames dropped on the way",
        papers.VIDTR,
        relates_segments=True,
        input=_segments_of(16),
        views=recipes.TIMESFORMER_VIEWS,
        fixed_size=True,
        weights="torchvision's of vit_b_16, ImageNet, by name",
        torchvision="vit_b_16",
        finetune=recipes.TRANSFORMER,
        names=build.renaming("transformer", "from_torchvision"),
    ),
    "clip-vit-b-16": Model(
        build.clip_vit,
        "segments",
        "CLIP's image network, a vision transformer, on each segment",
        papers.CLIP,
        input=_segments_of(8),
        fixed_size=True,
        weights=_FILE + "CLIP, transformers or timm",
        finetune=recipes.TRANSFORMER,
        names=build.renaming("clip_vit", "own_names"),
        normalisation=_CLIP,
    ),
    **{
        f"vivit-{number}": Model(
            partial(build.vivit, factorisation=factorisation),
            "frames",
            f"a transformer on tubelets, {how}",
            papers.VIVIT,
            accuracy,
            input=frames_of(32, stride=2, short="loop"),
            fixed_size=True,
            recipe=recipes.vivit(0.05 if number == 2 else 0.1) if number < 3 else None,
            views=recipes.VIVIT_VIEWS,
            weights=(_FILE + "transformers; or " if number == 1 else "")
            + "torchvision's of vit_b_16, ImageNet, by name",
            torchvision="vit_b_16",
            finetune=recipes.TRANSFORMER,
            names=build.renaming("vivit_names", "own_names"),
            normalisation=_UNIT,
            # Model 2 has no token of a place and a time at its end.
            maskable=number != 2,
        )
        for number, factorisation, how, accuracy in (
            (1, "joint", "attention over all of them", "Kinetics-400 80.0"),
            (2, "encoder", "an encoder over space and one over time", "Kinetics-400 78.8"),
            (3, "attention", "attention over time and over space in turn", "Kinetics-400 77.4"),
            (4, "heads", "half of the heads for time, half for space", "Kinetics-400 76.3"),
        )
    },
    **VIDEO_NETWORKS,
}
"""Networks by the name that a user types; a new one is a function and a line here."""
