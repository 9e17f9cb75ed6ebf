"""
Flow of a folder of videos
==========================

:func:`flowpipe.extract_flow` computes the flow of every video in a folder and stores it, one file
per clip. A second call skips the clips that are finished.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import flowpipe

# %%
# A small synthetic set takes the place of your folder of videos.

folder = Path(tempfile.mkdtemp())
videos, stored = folder / "videos", folder / "flow"
flowpipe.write_synthetic(videos, n_groups=2, clips_per_group=1, n_frames=12)

# %%
# Flow at the videos' own size (the default is TSN's 340x256), as zips of 8-bit JPEGs.

summary = flowpipe.extract_flow(videos, stored, size=None)
print(summary)
print(flowpipe.extract_flow(videos, stored, size=None))

# %%
# :func:`flowpipe.read_flow` reads the flow of one clip in pixels, whatever the layout.

clips = sorted(path for path in stored.rglob("*.zip") if "_still" in path.name)
arrows = {"angles": "xy", "scale_units": "xy", "scale": 0.5, "width": 0.008}
fig, axes = plt.subplots(2, 3, figsize=(8, 4.4), layout="constrained")
for axis, path in zip(axes.flat, clips, strict=True):
    name = path.relative_to(stored).with_suffix("")
    frame = flowpipe.read_video((videos / name).with_suffix(".avi"), max_frames=1)[0]
    x, y = flowpipe.read_flow(path)[0]
    step = 8
    rows, columns = np.mgrid[step // 2 : x.shape[0] : step, step // 2 : x.shape[1] : step]
    axis.imshow(frame, alpha=0.5)
    axis.quiver(columns, rows, x[rows, columns], y[rows, columns], color="crimson", **arrows)
    axis.set_title(name.parent.name)
    axis.set_axis_off()
fig.suptitle("first two frames of a clip of each class: flow, twice its length")
plt.show()
