"""Detectors on stored features: which of the classes is in the present, and where intervals are."""
