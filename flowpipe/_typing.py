"""Types of arrays that several packages share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""(H, W) uint8 grey levels."""
Plane = NDArray[np.float32]
"""(H, W) float32."""
