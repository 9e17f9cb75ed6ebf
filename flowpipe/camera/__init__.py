"""Estimation of the camera's motion from one frame to the next."""

CORNER_QUALITY = 0.001
"""Smallest eigenvalue of a corner, as a fraction of the frame's largest (Wang and Schmid 2013)."""
