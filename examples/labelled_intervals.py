"""
Labelled intervals of untrimmed videos
======================================

:func:`flowpipe.write_untrimmed` draws videos in which actions follow one another with nothing
between, and :func:`flowpipe.write_streams` makes such videos of trimmed clips.
:func:`flowpipe.load_intervals` reads either, and the files of ActivityNet and THUMOS'14.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import flowpipe
from flowpipe.classify.per_frame import frame_metrics
from flowpipe.datasets.intervals import frame_labels

# %%
# One untrimmed video of each of two groups, and one stream of the clips of each of two groups.

folder = Path(tempfile.mkdtemp())
untrimmed = flowpipe.write_untrimmed(folder / "untrimmed", n_groups=2, videos_per_group=1)
clips = flowpipe.write_synthetic(folder / "clips", n_groups=2, clips_per_group=1, n_frames=24)
streams = flowpipe.write_streams(clips, folder / "streams", gap=10)
for found in (untrimmed, flowpipe.load_intervals(folder / "streams" / "intervals.csv")):
    print(found.describe())

# %%
# The intervals of an untrimmed video, and how much its frames change, which knows nothing of the
# classes.

clip = next(clip for clip in untrimmed.clips if clip.name.endswith("still"))
frames = flowpipe.read_video(clip.path).astype(np.float32)
change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
fig, axis = plt.subplots(figsize=(8, 3), layout="constrained")
for each in untrimmed.intervals[clip.name]:
    row = untrimmed.classes.index(each.label)
    axis.barh(row, each.end - each.start, left=each.start, color=f"C{row}")
axis.set_yticks(range(len(untrimmed.classes)), untrimmed.classes)
axis.set_xlabel("seconds")
over = axis.twinx()
over.plot(np.arange(len(change)) / 25, change, color="black", linewidth=0.6)
over.set_ylabel("mean change of a level")
plt.show()

# %%
# As the score of every class, the change alone tells motion from rest: its average precision is
# the share of each class in the motion.

labels = frame_labels(untrimmed.intervals[clip.name], untrimmed.classes, len(change), 25)
scores = np.repeat(change[:, None], len(untrimmed.classes), axis=1)
metrics = frame_metrics(labels, scores, untrimmed.classes)
print(f"per-frame mAP {metrics.mean_average_precision:.2f}")
print(f"calibrated {metrics.mean_calibrated:.2f}")
