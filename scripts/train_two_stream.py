"""Train and test one stream of a two-stream network in one file, to read and to copy.

The loop is all here; reading flow, sampling snippets, transforms and networks are flowpipe's. What
``flowpipe train`` adds to it: checkpoints in the middle of an epoch, several GPUs, tables of
splits. Flow first:

    flowpipe extract-flow videos/ --out flow --frames

then, with lists of lines ``clip label`` (a clip is named as in ``flow/``, without suffix):

    python scripts/train_two_stream.py flow/ train.txt test.txt --modality flow --out flow-stream
    python scripts/train_two_stream.py flow/ train.txt test.txt --modality rgb --out rgb-stream
    flowpipe fuse rgb-stream/scores.npz:1 flow-stream/scores.npz:1.5
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from flowpipe.classify.metrics import evaluate
from flowpipe.classify.scores import Scores, SplitScores, save_scores
from flowpipe.errors import FlowpipeError
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import initialise, load_model, save_model
from flowpipe.training import FlowClips, FrameClips, test_transform, train_transform
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import parameter_groups

Labelled = list[tuple[str, int]]


def arguments() -> argparse.Namespace:
    """The command line; the defaults are TSN's for flow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("flow", type=Path, help="folder of extract-flow")
    parser.add_argument("train", type=Path, help="list of training clips: 'clip label' a line")
    parser.add_argument("test", type=Path, help="list of test clips")
    parser.add_argument("--out", type=Path, default=Path("stream"), help="output folder")
    parser.add_argument("--modality", choices=("flow", "rgb"), default="flow")
    parser.add_argument("--backbone", default="resnet50", help="a network of torchvision")
    parser.add_argument("--weights", default="default", help="torchvision's name, a file, or none")
    parser.add_argument("--segments", type=int, default=3, help="snippets of a clip in training")
    parser.add_argument("--length", type=int, default=5, help="flow fields of a snippet")
    parser.add_argument("--input-size", type=int, default=224, help="side of the network's input")
    parser.add_argument("--epochs", type=int, default=242)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--dropout", type=float, default=0.7)
    parser.add_argument(
        "--grad-clip", type=float, default=20.0, help="largest norm of the gradient"
    )
    parser.add_argument("--test-clips", type=int, default=25)
    parser.add_argument("--loader-workers", type=int, default=4, help="processes that read clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_list(path: Path) -> list[tuple[str, str]]:
    """Clip names and labels of a list."""
    pairs = []
    for line in path.read_text().splitlines():
        name, _, label = line.strip().rpartition(" ")
        if name:
            pairs.append((name, label))
    return pairs


def open_clips(
    options: argparse.Namespace, clips: Labelled, *, testing: bool
) -> FlowClips | FrameClips:
    """The clips of a list as the network sees them.

    Clips that are missing or too short raise an error that lists them, here and now.
    """
    sampling: Sampling = "test" if testing else "random"
    segments = options.test_clips if testing else options.segments
    # Tests get raw levels: ten crops of all snippets are made where they are needed.
    transform = None if testing else train_transform(options.modality, options.input_size)
    if options.modality == "flow":
        return FlowClips(
            options.flow,
            clips,
            segments=segments,
            length=options.length,
            sampling=sampling,
            transform=transform,
            seed=options.seed,
        )
    return FrameClips(
        options.flow,
        clips,
        segments=segments,
        sampling=sampling,
        transform=transform,
        seed=options.seed,
    )


def make_network(options: argparse.Namespace, n_classes: int) -> StreamNetwork:
    """A torchvision network for this many channels and classes.

    With weights of RGB, the first convolution is averaged over the colours and copied, and all
    normalisations but the first are frozen, as TSN does it.
    """
    from_scratch = options.weights == "none"
    parts = Network(
        backbone=options.backbone,
        dropout=options.dropout,
        consensus="average",
        batch_norm="train" if from_scratch else "partial",
    )
    length = options.length if options.modality == "flow" else 1
    clip = ClipInput(options.modality, options.segments, length, options.input_size)
    network = StreamNetwork(parts, clip, [n_classes])
    initialise(network, options.weights)
    return network


def make_optimiser(network: StreamNetwork, options: argparse.Namespace) -> torch.optim.SGD:
    """Return SGD with TSN's factors on the learning rate of the first convolution and of biases."""
    conv1 = 5.0 if options.modality == "flow" and options.weights != "none" else 1.0
    training = Training(lr=options.lr, conv1_lr=conv1)
    return torch.optim.SGD(parameter_groups(network, training), lr=options.lr, momentum=0.9)


def train_epoch(
    network: StreamNetwork,
    loader: DataLoader[tuple[Tensor, int]],
    optimiser: torch.optim.SGD,
    options: argparse.Namespace,
) -> tuple[float, float]:
    """One pass over the training clips; returns their mean loss and accuracy."""
    network.train()
    total = right = count = 0.0
    for batch in loader:
        snippets, labels = (part.to(options.device) for part in batch)
        with torch.autocast("cuda", torch.bfloat16, enabled=options.device.startswith("cuda")):
            scores = network(network.clips(snippets))  # (B, K, C, H, W): the mean over the K
        loss = nn.functional.cross_entropy(scores.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), options.grad_clip)
        optimiser.step()
        total += loss.item() * len(labels)
        right += int((scores.argmax(dim=1) == labels).sum())
        count += len(labels)
    return total / count, right / count


def score(
    network: StreamNetwork, clips: FlowClips | FrameClips, options: argparse.Namespace
) -> np.ndarray:
    """Scores of clips before any softmax: the mean over snippets and ten crops of each."""
    network.eval()
    crops = test_transform(options.modality, options.input_size)  # flips of flow negate x
    rows = []
    with torch.inference_mode():
        for snippets, _ in DataLoader(clips, batch_size=None, num_workers=options.loader_workers):
            scores = [
                network.snippets(crops(one[None], torch.Generator()).to(options.device))[0]
                for one in snippets
            ]
            rows.append(torch.cat(scores).mean(dim=0).float().cpu().numpy())
    return np.stack(rows)


def main() -> None:
    """Train, test, and write ``model.safetensors``, ``log.csv`` and ``scores.npz``."""
    options = arguments()
    train_list, test_list = read_list(options.train), read_list(options.test)
    classes = sorted({label for _, label in train_list})
    index = {label: number for number, label in enumerate(classes)}
    unknown = sorted({label for _, label in test_list} - index.keys())
    if unknown:
        raise SystemExit(f"no training clip is of {', '.join(unknown)}")
    try:
        train_clips = open_clips(options, [(n, index[c]) for n, c in train_list], testing=False)
        test_clips = open_clips(options, [(n, index[c]) for n, c in test_list], testing=True)
    except FlowpipeError as error:
        raise SystemExit(str(error)) from None
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    network = make_network(options, len(classes)).to(options.device)
    optimiser = make_optimiser(network, options)
    # TSN lowers the rate after 10 000 and 16 000 of 18 000 iterations.
    milestones = [round(options.epochs * part) for part in (10 / 18, 16 / 18)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
    loader = DataLoader(
        train_clips,
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=options.loader_workers,
        persistent_workers=options.loader_workers > 0,
        pin_memory=options.device.startswith("cuda"),
    )

    with (options.out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["epoch", "lr", "loss", "accuracy", "seconds"])
        for epoch in range(options.epochs):
            train_clips.set_epoch(epoch)  # random snippets and crops are drawn anew
            began = time.perf_counter()
            loss, accuracy = train_epoch(network, loader, optimiser, options)
            seconds = time.perf_counter() - began
            rate = schedule.get_last_lr()[-1]
            log.writerow([epoch + 1, rate, f"{loss:.4f}", f"{accuracy:.4f}", f"{seconds:.1f}"])
            file.flush()
            print(f"epoch {epoch + 1}: loss {loss:.3f}, accuracy {100 * accuracy:.1f} %")
            schedule.step()

    about = {"classes": [classes], "modality": options.modality, "length": options.length}
    save_model(options.out / "model.safetensors", network, about, options.out)
    network, about = load_model(options.out / "model.safetensors")  # runs no code, whoever made it

    found = SplitScores(
        "test",
        tuple(test_clips.names),
        np.array(test_clips.labels, np.int64),
        score(network.to(options.device), test_clips, options),
    )
    scores = Scores(tuple(classes), (found,))
    save_scores(options.out / "scores.npz", scores, options.out)
    metrics = evaluate(scores)
    print(
        f"{options.modality}: accuracy {100 * metrics.accuracy.value:.1f} %, "
        f"mean class accuracy {100 * metrics.mean_class_accuracy.value:.1f} %"
    )


if __name__ == "__main__":
    main()
