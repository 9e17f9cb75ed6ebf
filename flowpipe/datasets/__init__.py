"""Readers of labelled video sets."""
