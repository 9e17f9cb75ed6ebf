"""Estimation of the camera's motion from one frame to the next."""
