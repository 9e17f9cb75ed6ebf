"""
Fusion of scores
================

:func:`flowpipe.fuse` adds the scores of several classifiers or networks with weights, and evaluates
the sum. Here it fuses two descriptors of :func:`flowpipe.idt_baseline`; scores of
:func:`flowpipe.evaluate` are fused with them in the same way.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import flowpipe
from flowpipe.encoding.parameters import Encoding

# %%
# A baseline writes the scores of every descriptor alone. (``workers=0`` starts no worker processes,
# which is quicker for so few clips.)

folder = Path(tempfile.mkdtemp())
flowpipe.write_synthetic(folder / "videos", n_groups=3, clips_per_group=1, n_frames=24)
metrics = flowpipe.idt_baseline(
    folder / "videos", folder / "idt", encoding=Encoding(gaussians=4), workers=0
)
print(f"all descriptors: {metrics.accuracy.value:.2f}")

# %%
# Each alone, and HOG and the trajectory together, with weights of 1 and 2.

hog, trajectory = (
    next((folder / "idt").rglob(f"scores-{descriptor}.npz")) for descriptor in ("hog", "trajectory")
)
results = {
    "HOG": flowpipe.fuse([hog], folder / "hog"),
    "trajectory": flowpipe.fuse([trajectory], folder / "trajectory"),
    "HOG and trajectory, 1 : 2": flowpipe.fuse({hog: 1, trajectory: 2}, folder / "fused"),
}

# %%
# Accuracy over the test clips of all splits, with Wilson's 95 % interval.

fig, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
for name, result in results.items():
    accuracy = result.accuracy
    print(f"{name}: {accuracy.value:.2f} ({accuracy.low:.2f} - {accuracy.high:.2f})")
    axis.barh(name, accuracy.value, color="steelblue")
    axis.plot([accuracy.low, accuracy.high], [name, name], color="black")
axis.set_xlim(0, 1)
axis.set_xlabel("accuracy")
plt.show()
