"""Video networks of torchvision, as entries of the table of networks."""

from __future__ import annotations

from functools import partial

from flowpipe.models import build, papers, recipes
from flowpipe.models.entry import (
    IMAGENET,
    PYSLOWFAST,
    Model,
    Normalisation,
    Options,
    Recipe,
    Views,
    frames_of,
)

KINETICS: Normalisation = ((110.2008, 100.63983, 95.99475), (58.14765, 56.46975, 55.332195))


def _network(
    name: str,
    seen: Options,
    title: str,
    published: str,
    accuracy: str,
    *,
    recipe: Recipe = recipes.R2PLUS1D,
    views: Views = recipes.TEN,
    normalisation: Normalisation = KINETICS,
    is_transformer: bool = False,
    fixed_size: bool = False,
) -> Model:
    return Model(
        partial(build.torchvision_video, name=name),
        "frames",
        title,
        published,
        accuracy,
        input=seen,
        recipe=recipe,
        views=views,
        any_length=not is_transformer,
        fixed_size=fixed_size,
        weights=f"torchvision's {name} of Kinetics-400, by name (--weights default) or a file",
        finetune=recipes.TRANSFORMER if is_transformer else (),
        names=build.renaming("torchvision_video", "own_names"),
        normalisation=normalisation,
        torchvision=name,
    )


VIDEO_NETWORKS: dict[str, Model] = {
    "r3d-18": _network(
        "r3d_18", frames_of(16, 112), "a 3-D ResNet-18", papers.R2PLUS1D, "Kinetics-400 63.2"
    ),
    "mc3-18": _network(
        "mc3_18",
        frames_of(16, 112),
        "3-D convolutions below, 2-D above",
        papers.R2PLUS1D,
        "Kinetics-400 64.0",
    ),
    "r2plus1d-18": _network(
        "r2plus1d_18",
        frames_of(16, 112),
        "3-D convolutions split into space and time",
        papers.R2PLUS1D,
        "Kinetics-400 67.5; UCF101 96.8",
    ),
    "s3d": _network(
        "s3d",
        frames_of(64),
        "I3D with convolutions split into space and time",
        "S. Xie et al., 'Rethinking Spatiotemporal Feature Learning', ECCV 2018",
        "Kinetics-400 68.4",
        recipe=recipes.S3D,
    ),
    "mvit-v2-s": _network(
        "mvit_v2_s",
        frames_of(16, stride=4, short="repeat"),
        "a transformer with pooled attention",
        "Y. Li et al., 'MViTv2', CVPR 2022",
        "Kinetics-400 80.8",
        recipe=recipes.MVIT,
        views=recipes.MVIT_VIEWS,
        normalisation=PYSLOWFAST,
        is_transformer=True,
        fixed_size=True,
    ),
    "swin3d-t": _network(
        "swin3d_t",
        frames_of(32, stride=2, short="loop"),
        "a transformer with shifted windows",
        "Z. Liu et al., 'Video Swin Transformer', CVPR 2022",
        "Kinetics-400 77.7",
        recipe=recipes.SWIN,
        views=recipes.SWIN_VIEWS,
        normalisation=IMAGENET,
        is_transformer=True,
    ),
}
