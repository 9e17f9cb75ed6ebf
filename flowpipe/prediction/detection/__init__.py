"""Trained detectors on new videos, frame by frame."""
