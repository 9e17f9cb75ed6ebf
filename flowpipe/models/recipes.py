"""How the authors of the networks trained and tested them.

Options that a recipe does not name are TSN's. Schedules in iterations are converted to epochs of
the data set that they were made for. What the options here cannot say is in the comments.

Three have no recipe. DeepVideo's rate falls by hand, when the loss no longer does, after a number
of epochs that the paper does not give. STM has no release. ViViT's release has configurations of
models 1 and 2 only.
"""

from __future__ import annotations

from flowpipe.models.entry import Options, Recipe, Views

KINETICS = "Kinetics-400"

TSN_VIEWS = Views(25, 10)
TRN_VIEWS = Views(1, 10)
CENTRE = Views(1, 1)
WHOLE = Views("all", 1)
TEN = Views(10, 1)
# 256 pixels of frames with a short side of 256, for networks that are trained with 224.
THIRTY = Views(10, 3, crop=8 / 7)
SLOWFAST_VIEWS = Views(10, 3, crop=8 / 7, average="probabilities")
MVIT_VIEWS = Views(5, 1, average="probabilities")
# Transformers take the size that they were trained with: three squares of the whole short side.
SWIN_VIEWS = Views(4, 3, short_side=1, average="probabilities")
TIMESFORMER_VIEWS = Views(1, 3, short_side=1, average="probabilities")
VIVIT_VIEWS = Views(4, 3)

TSN = Recipe((), "UCF101, from ImageNet")
# The script of the release for ResNet-50 with 8 frames.
TSM = Recipe(
    (
        ("epochs", 50), ("batch_size", 128), ("lr", 0.02), ("milestones", (0.4, 0.8)),
        ("weight_decay", 1e-4), ("grad_clip", 20.0), ("conv1_lr", 1.0), ("dropout", 0.5),
        ("batch_norm", "train"),
    ),
    f"{KINETICS}, from ImageNet",
)  # fmt: skip
TRN = Recipe(
    (
        ("epochs", 120), ("batch_size", 64), ("lr", 0.001), ("milestones", (0.417, 0.833)),
        ("grad_clip", 20.0), ("conv1_lr", 1.0), ("dropout", 0.8),
    ),
    "Something-Something, from ImageNet",
)  # fmt: skip
# 30 000 iterations of 24 clips, a tenth of the rate after every 10 000; the second of two stages.
LRCN = Recipe(
    (
        ("epochs", 75), ("batch_size", 24), ("lr", 0.001), ("milestones", (0.333, 0.667)),
        ("weight_decay", 0.005), ("grad_clip", 5.0), ("conv1_lr", 1.0), ("head_rate", 10.0),
        ("dropout", 0.5),
    ),
    "UCF101, from a network on single frames",
)  # fmt: skip
TEA = Recipe(
    (
        ("epochs", 50), ("batch_size", 64), ("lr", 0.02), ("milestones", (0.6, 0.8, 0.9)),
        ("conv1_lr", 1.0), ("dropout", 0.5), ("batch_norm", "train"),
    ),
    f"{KINETICS}, from ImageNet",
)  # fmt: skip
TDN = Recipe(
    (
        ("epochs", 25), ("lr", 0.002), ("milestones", (0.4, 0.8)), ("conv1_lr", 1.0),
        ("dropout", 0.8),
    ),
    f"UCF101, from {KINETICS}",
)  # fmt: skip
# The second stage of the release: 5 of its epochs, of 10 passes each. What is below the fusion
# keeps the weights of the first stage, in which both streams are trained alone.
FUSION = Recipe(
    (
        ("backbone", "vgg16"), ("epochs", 50), ("batch_size", 96), ("lr", 0.001),
        ("milestones", (0.4, 0.6, 0.8)), ("grad_clip", None), ("conv1_lr", 1.0),
        ("backbone_rate", 0.0), ("dropout", 0.85), ("batch_norm", "frozen"),
    ),
    "UCF101, from two networks of train, on frames and on flow",
)  # fmt: skip
# With Nesterov's momentum.
ECO = Recipe(
    (
        ("epochs", 40), ("batch_size", 64), ("accumulate", 4), ("lr", 0.001),
        ("milestones", (0.375, 0.75)), ("grad_clip", 50.0), ("conv1_lr", 1.0), ("dropout", 0.3),
    ),
    f"UCF101, from {KINETICS}",
)  # fmt: skip
# mmaction2's configuration; the paper's own is of Sports-1M.
C3D = Recipe(
    (("epochs", 45), ("lr", 0.001), ("milestones", (0.444, 0.889)), ("conv1_lr", 1.0),
     ("dropout", 0.5)),
    "UCF101, from Sports-1M",
)  # fmt: skip
# 110 000 iterations of 256 clips.
I3D = Recipe(
    (("epochs", 117), ("batch_size", 256), ("lr", 0.1), ("conv1_lr", 1.0), ("grad_clip", None),
     ("batch_norm", "train")),
    f"{KINETICS}, from ImageNet",
)  # fmt: skip
# From scratch, with a warm-up that begins at 0.01; batches of 64 on 8 GPUs. The configurations of
# C2D, I3D and I3D with non-local blocks in the SlowFast release are the same.
SLOWFAST = Recipe(
    (
        ("epochs", 196), ("batch_size", 64), ("lr", 0.1), ("schedule", "cosine"), ("warmup", 34.0),
        ("weight_decay", 1e-4), ("grad_clip", None), ("conv1_lr", 1.0), ("dropout", 0.5),
        ("batch_norm", "train"), ("precise_bn", 200),
    ),
    f"{KINETICS}, from scratch",
)  # fmt: skip
# C2D with non-local blocks from ImageNet, in the SlowFast release.
NON_LOCAL = Recipe(
    (
        ("epochs", 118), ("batch_size", 64), ("lr", 0.01), ("milestones", (0.373, 0.746)),
        ("weight_decay", 1e-4), ("grad_clip", None), ("conv1_lr", 1.0), ("dropout", 0.5),
        ("batch_norm", "train"), ("precise_bn", 200),
    ),
    f"{KINETICS}, from ImageNet",
)  # fmt: skip
# torchvision's: 45 of its epochs, each of 5 clips of every video; 64 GPUs with batches of 12.
S3D = Recipe(
    (
        ("epochs", 225), ("batch_size", 768), ("lr", 0.2), ("warmup", 50.0),
        ("milestones", (0.444, 0.667, 0.889)), ("weight_decay", 1e-4), ("grad_clip", None),
        ("conv1_lr", 1.0), ("dropout", 0.2), ("batch_norm", "train"),
    ),
    f"{KINETICS}, from scratch",
)  # fmt: skip
# 16 GPUs, each with a rate of 0.01.
R2PLUS1D = Recipe(
    (
        ("epochs", 45), ("lr", 0.16), ("warmup", 10.0), ("schedule", "cosine"),
        ("grad_clip", None), ("conv1_lr", 1.0), ("batch_norm", "train"),
    ),
    f"{KINETICS}, from scratch",
)  # fmt: skip
TIMESFORMER = Recipe(
    (
        ("epochs", 15), ("batch_size", 64), ("lr", 0.005), ("milestones", (0.733, 0.933)),
        ("weight_decay", 1e-4), ("grad_clip", None), ("conv1_lr", 1.0),
    ),
    f"{KINETICS}, from ImageNet-21k",
)  # fmt: skip


def vivit(lr: float) -> Recipe:
    """Return the recipe of ViViT, whose models differ in the learning rate."""
    return Recipe(
        (
            ("epochs", 30), ("batch_size", 64), ("lr", lr), ("schedule", "cosine"),
            ("warmup", 2.5), ("weight_decay", 0.0), ("grad_clip", 1.0), ("conv1_lr", 1.0),
        ),
        f"{KINETICS}, from ImageNet-21k",
    )  # fmt: skip


# The configuration of the release, which also mixes by CutMix and changes colours.
MVIT = Recipe(
    (
        ("epochs", 200), ("lr", 0.0016), ("optimizer", "adamw"), ("schedule", "cosine"),
        ("warmup", 30.0), ("weight_decay", 0.05), ("grad_clip", 1.0), ("conv1_lr", 1.0),
        ("label_smoothing", 0.1), ("mixup", 0.8), ("stochastic_depth", 0.2), ("dropout", 0.5),
    ),
    f"{KINETICS}, from scratch",
)  # fmt: skip
TRANSFORMER: Options = (
    ("epochs", 30), ("batch_size", 64), ("lr", 0.001), ("optimizer", "adamw"),
    ("schedule", "cosine"), ("warmup", 2.5), ("weight_decay", 0.02), ("backbone_rate", 0.1),
    ("head_rate", 1.0), ("conv1_lr", 1.0), ("grad_clip", None),
)  # fmt: skip
"""From weights of images, as mmaction2 trains Video Swin."""
SWIN = Recipe(TRANSFORMER, f"{KINETICS}, from ImageNet")
MAE: Options = (
    ("epochs", 800), ("batch_size", 256), ("lr", 1.5e-4), ("optimizer", "adamw"),
    ("schedule", "cosine"), ("warmup", 40.0), ("weight_decay", 0.05), ("grad_clip", None),
    ("head_rate", 1.0), ("backbone_rate", 1.0), ("conv1_lr", 1.0), ("balanced_batches", False),
    ("label_smoothing", 0.0), ("mixup", 0.0), ("stochastic_depth", 0.0), ("dropout", 0.0),
)  # fmt: skip
"""The pretraining of VideoMAE on Kinetics, whose learning rate is for batches of 256 clips."""
