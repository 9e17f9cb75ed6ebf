"""Draw the architecture of a network: its stages from the clip to the scores, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flowpipe.models.clip_input import Modality
from flowpipe.models.cost import network_cost
from flowpipe.models.describe import usual_input
from flowpipe.models.stages import Stage, network_stages

_WIDTH, _ROW, _BOX = 760, 58, 40
_LEFT, _BOX_WIDTH = 20, 250
_COLUMNS = (290, 430, 600)
"""Left edges of the columns: output, parameters, multiply-adds."""
_BAR = 70
_PARAMETERS, _MULTIPLY_ADDS = "#0072b2", "#d55e00"
"""Two of the colours of Okabe and Ito, which the colour-blind can tell apart."""


def draw_model(
    name: str, modality: Modality = "rgb", num_classes: int = 400, *, backbone: str = "resnet50"
) -> str:
    """Return a drawing of a network of the table, with the clip that it takes by default.

    Parameters
    ----------
    name, modality, num_classes, backbone
        As for :func:`flowpipe.describe_model`.

    Returns
    -------
    str
        An SVG, as of :func:`draw_architecture`.

    Raises
    ------
    ParameterError
        There is no such network, or it does not take the modality or the backbone.
    """
    network, clip = usual_input(name, modality, backbone)
    shape = network_cost(network, clip, num_classes).shape
    return draw_architecture(name, shape, network_stages(network, clip, num_classes))


def draw_architecture(title: str, clip: Sequence[int], stages: Sequence[Stage]) -> str:
    """Return a drawing of a network, from top to bottom.

    Parameters
    ----------
    title
        Title of the drawing.
    clip
        Shape of a clip: C, T, H, W.
    stages
        Stages of the network.

    Returns
    -------
    str
        An SVG. Each stage has its name and class, the shape of its output, and its parameters and
        multiply-adds as numbers and as bars, whose length is the share of the whole network.

    Examples
    --------
    >>> stage = Stage("fc", "Linear", (3, 101), 51813, 155136)
    >>> print(draw_architecture("TSN", (3, 3, 224, 224), [stage])[:4])
    <svg
    """
    height = 90 + _ROW * (len(stages) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" '
        'font-family="sans-serif" font-size="13" fill="#1a1a1a">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 26, title, "bold"),
    ]
    headings = ("output", "parameters", "multiply-adds")
    parts += [_text(x, 50, heading, "bold") for x, heading in zip(_COLUMNS, headings, strict=True)]
    parts += [_box(62, "clip", _shape(clip), "#f0f0f0")]
    parameters = sum(stage.parameters for stage in stages) or 1
    multiply_adds = sum(stage.multiply_adds for stage in stages) or 1
    for row, stage in enumerate(stages, 1):
        top = 62 + _ROW * row
        middle = _LEFT + _BOX_WIDTH // 2
        parts += [
            f'<path d="M{middle} {top - _ROW + _BOX}V{top - 6}" stroke="#555555"/>',
            f'<path d="M{middle - 4} {top - 7}l4 6 4 -6z" fill="#555555"/>',
            _box(top, stage.name, stage.kind, "#e8f1f8"),
            _text(_COLUMNS[0], top + 25, _shape(stage.shape)),
            *_bar(_COLUMNS[1], top, stage.parameters, parameters, _PARAMETERS),
            *_bar(_COLUMNS[2], top, stage.multiply_adds, multiply_adds, _MULTIPLY_ADDS),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(top: int, name: str, kind: str, colour: str) -> str:
    middle = _LEFT + _BOX_WIDTH // 2
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{_BOX_WIDTH}" height="{_BOX}" rx="4" '
        f'fill="{colour}" stroke="#555555"/>'
        f'<text x="{middle}" y="{top + 17}" text-anchor="middle">{escape(name)}</text>'
        f'<text x="{middle}" y="{top + 33}" text-anchor="middle" font-size="11" '
        f'fill="#444444">{escape(kind)}</text>'
    )


def _bar(left: int, top: int, value: int, total: int, colour: str) -> list[str]:
    width = max(1, round(_BAR * value / total))
    return [
        f'<rect x="{left}" y="{top + 13}" width="{_BAR}" height="14" fill="#eeeeee"/>',
        f'<rect x="{left}" y="{top + 13}" width="{width}" height="14" fill="{colour}"/>',
        _text(left + _BAR + 8, top + 25, _number(value)),
    ]


def _text(x: int, y: int, text: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(text)}</text>'


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _number(value: int) -> str:
    """Return a count with three digits: ``23.5 M``."""
    for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}" if value < 1000 * unit else f"{value // unit}{name}"
    return str(value)
