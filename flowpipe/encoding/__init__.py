"""From the descriptors of a clip to one vector: Fisher vectors, or a bag of words."""

from flowpipe.encoding.table import ENCODERS, Encoder

__all__ = ["ENCODERS", "Encoder"]
