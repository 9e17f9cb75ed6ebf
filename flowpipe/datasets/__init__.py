"""Labelled sets of videos: readers, official splits, and published facts."""
