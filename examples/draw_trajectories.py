"""
Trajectories over a frame
=========================

:func:`flowpipe.dense_trajectories` follows points through a clip. Improved trajectories (``idt``)
leave out those that the motion of the camera explains.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

import flowpipe

# %%
# A clip whose camera moves.

videos = Path(tempfile.mkdtemp())
dataset = flowpipe.write_synthetic(videos, n_groups=2, clips_per_group=2, n_frames=24)
clip = next(
    clip for clip in dataset.clips if clip.name.startswith("zoom/") and "moving" in clip.name
)
frames = flowpipe.read_video(clip.path)

# %%
# Dense and improved dense trajectories. A row is a track of 16 points with its descriptors.

tracks = {kind: flowpipe.dense_trajectories(frames, kind=kind) for kind in ("dt", "idt")}
for kind, rows in tracks.items():
    print(f"{kind}: {len(rows)} tracks, HOG {rows.hog.shape}, HOF {rows.hof.shape}")

# %%
# The tracks that end in the last frame.

last = len(frames) - 1
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for axis, (kind, rows) in zip(axes, tracks.items(), strict=True):
    ending = rows.points[rows.info[:, 0] == last]
    axis.imshow(frames[last], alpha=0.6)
    axis.add_collection(LineCollection(ending, colors="crimson", linewidths=0.8))
    axis.plot(*ending[:, -1].T, ".", color="black", markersize=2)
    axis.set_title(f"{kind}: {len(ending)} tracks end in frame {last}")
    axis.set_axis_off()
plt.show()
