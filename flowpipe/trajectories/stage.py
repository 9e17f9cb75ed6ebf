"""``extract-trajectories``: a video's frames, its trajectories, their table; text and a picture too.

One clip is one pass, and what is held is a block of rows, the live tracks and two frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe import artifacts
from flowpipe.clips import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.execution import Advance, Done
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.footage import TRUNCATED, Footage, Size, check_size, standing
from flowpipe.trajectories.boxes import read_boxes
from flowpipe.trajectories.draw import TrackFilm
from flowpipe.trajectories.extract import Trajectories, extract
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import Table, TableWriter
from flowpipe.trajectories.text import TextWriter

Storage = Literal["int16", "float32"]
