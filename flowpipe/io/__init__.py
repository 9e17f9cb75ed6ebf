"""Reading and writing of videos and arrays."""
