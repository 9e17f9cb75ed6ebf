"""From the descriptors of a clip to one vector: Fisher vectors, or bags of words."""
