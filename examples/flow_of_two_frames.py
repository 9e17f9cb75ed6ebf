"""
Optical flow of two frames
==========================

:func:`flowpipe.optical_flow` takes two images and returns the displacement of every pixel, in
pixels. The default is TV-L1 with the parameters with which the published two-stream and TSN flow
was computed.
"""

import cv2
import matplotlib.pyplot as plt
import numpy as np

import flowpipe

# %%
# A textured disc moves 4 pixels to the right and 2 down over a background that stands still.

rng = np.random.default_rng(0)
texture = cv2.GaussianBlur(rng.integers(0, 256, (160, 240)).astype(np.uint8), (0, 0), 2)
texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
disc = cv2.circle(np.zeros((160, 240), np.uint8), (110, 75), 40, 255, -1)
inverted = 255 - texture

first = np.where(disc > 0, inverted, texture)
shift = (2, 4)  # down, right
second = np.where(np.roll(disc, shift, (0, 1)) > 0, np.roll(inverted, shift, (0, 1)), texture)

# %%
# The flow is (2, H, W): x to the right, then y down.

flow = flowpipe.optical_flow(first, second)
print(flow.shape, flow.dtype)
print("median in the disc:", np.median(flow[:, disc > 0], axis=1).round(2))

# %%
# Other methods are compared by name.

fig, axes = plt.subplots(2, 2, figsize=(8, 5.4), layout="constrained")
axes[0, 0].imshow(first, cmap="gray")
axes[0, 0].set_title("first frame")
methods = {"tvl1": "TV-L1", "farneback": "Farnebäck", "dis": "DIS"}
for axis, (method, title) in zip(axes.flat[1:], methods.items(), strict=True):
    speed = np.hypot(*flowpipe.optical_flow(first, second, method=method))
    shown = axis.imshow(speed, vmin=0, vmax=6, cmap="viridis")
    axis.set_title(title)
for axis in axes.flat:
    axis.set_axis_off()
fig.colorbar(shown, ax=axes, label="speed, pixels per frame")
plt.show()
