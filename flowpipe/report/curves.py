"""Draw how the networks of a report were trained."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
"""Loss and accuracy (0 to 1) on the training clips, of each epoch of a network."""


def draw_training(streams: Mapping[str, Sequence[Curve]]) -> bytes:
    """Draw loss and accuracy by epoch as SVG: a colour per stream, a line per network of it.

    Parameters
    ----------
    streams
        Curves of the networks of each stream, by its name.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "flowpipe"}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        labels = ("loss, training clips", "accuracy in %, training clips")
        for place, (label, scale) in enumerate(zip(labels, (1, 100), strict=True)):
            axes = figure.add_subplot(1, 2, place + 1)
            for number, (name, curves) in enumerate(streams.items()):
                for curve in curves:
                    values = [scale * epoch[place] for epoch in curve]
                    shown = name if curve is curves[0] else None
                    epochs = range(1, len(values) + 1)
                    axes.plot(epochs, values, color=f"C{number}", linewidth=1.2, label=shown)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0, top=100 if place else None)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
