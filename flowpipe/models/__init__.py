"""Networks and their weights."""

from flowpipe.models.inflation import inflate
from flowpipe.models.table import MODELS

__all__ = ["MODELS", "inflate"]
