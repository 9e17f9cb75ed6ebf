"""Pictures: flow colours, overlays, plots."""
