"""Networks and their weights."""

from flowpipe.models.table import MODELS

__all__ = ["MODELS"]
