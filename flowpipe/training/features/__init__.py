"""Features of windows of clips, in the layouts that detection and segmentation programs read."""
