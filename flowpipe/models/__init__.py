"""Networks and their weights."""

from flowpipe.models.inflate import inflate
from flowpipe.models.table import MODELS

__all__ = ["MODELS", "inflate"]
