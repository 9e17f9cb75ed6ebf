"""Running a stage over many clips: atomic writes, provenance, resuming, progress."""
