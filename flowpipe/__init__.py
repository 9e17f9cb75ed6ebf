"""flowpipe: optical flow, dense trajectories and two-stream baselines for action recognition."""

__version__ = "0.1.0"
