"""
A network on stored flow
========================

:class:`flowpipe.FlowClips` is a torch data set of stored flow: any network and any training loop
can read it. Here a small convolutional network learns the six motions of the synthetic set.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.data import DataLoader

import flowpipe

# %%
# Flow of the set, and the set's first split into training and test clips.

folder = Path(tempfile.mkdtemp())
dataset = flowpipe.write_synthetic(
    folder / "videos", n_groups=3, clips_per_group=4, n_frames=20, width=64, height=64
)
flowpipe.extract_flow(folder / "videos", folder / "flow", size=None, workers=0)
split = flowpipe.protocol(dataset, "official").splits[0]


def labelled(names):
    """Return the clips without motion of the camera, with their class indices."""
    labels = {clip.name: dataset.classes.index(clip.label) for clip in dataset.clips}
    return [(name, labels[name]) for name in names if name.endswith("_still")]


# %%
# Training clips are cropped and flipped at random, with flipped flow negated in x. A sample is one
# stack of 10 flow fields, x and y: 20 channels.

torch.manual_seed(0)
train = flowpipe.FlowClips(
    folder / "flow",
    labelled(split.train),
    segments=1,
    length=10,
    transform=flowpipe.train_transform("flow", 48),
)
test = flowpipe.FlowClips(
    folder / "flow",
    labelled(split.test),
    segments=3,
    length=10,
    sampling="test",
    transform=flowpipe.test_transform("flow", 48, crops=1),
)
print(train[0][0].shape, test[0][0].shape)

# %%
# The network.


def block(inputs, outputs):
    """Halve the size."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


network = nn.Sequential(
    block(20, 32),
    block(32, 64),
    block(64, 128),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(128, len(dataset.classes)),
)

# %%
# Training: what is drawn at random follows from the epoch, so that a resumed training continues
# with the same samples.

optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
loader = DataLoader(train, batch_size=8, shuffle=True)
losses = []
for epoch in range(30):
    train.set_epoch(epoch)
    for stacks, targets in loader:
        loss = nn.functional.cross_entropy(network(stacks[:, 0]), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

# %%
# Test: the mean of the scores over 3 stacks.

network.eval()
with torch.no_grad():
    right = [network(crops).mean(0).argmax().item() == target for crops, target in test]
print(f"accuracy on {len(right)} test clips: {sum(right) / len(right):.2f}")

fig, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(losses)
axis.set_xlabel("step")
axis.set_ylabel("training loss")
plt.show()
