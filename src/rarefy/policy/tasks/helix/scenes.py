"""What a problem looks like: a board, a network or bars, each as text and as an image.

A task lays out its state once; :func:`describe` writes it into the prompt and :func:`paint` draws
it, so that the two modalities cannot tell different things.

Source: MM-HELIX (arXiv 2510.08540), section 3, for the two modalities. Departures: none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi, sin
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_CELL = 44
_INK = (32, 32, 32)
_PALE = (190, 190, 190)
_SHADE = (225, 232, 240)
_PAPER = (255, 255, 255)
_NUMBER, _NOTE = 16, 14


@dataclass(frozen=True)
class Board:
    """Cells with symbols, clues on the four sides, regions, and notes underneath.

    Attributes
    ----------
    cells : tuple of tuple of str
        ``"."`` is an empty cell and ``"#"`` a blocked one.
    above, below, left, right : tuple of str
        A clue for each column or row; empty where there are none.
    regions : tuple of tuple of str
        A letter for each cell; empty where there are no regions.
    notes : tuple of str
    """

    cells: tuple[tuple[str, ...], ...]
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    regions: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """Nodes and edges.

    Attributes
    ----------
    nodes : tuple of str
        Drawn on a circle, in order.
    edges : tuple of (str, str, str)
        Ends and label; no label is the empty string.
    directed : bool
    notes : tuple of str
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]
    directed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """Numbers in a row, drawn as bars."""

    values: tuple[int, ...]
    notes: tuple[str, ...] = ()


Scene = Board | Network | Bars


def symbols(cells: Iterable[Iterable[int]]) -> tuple[tuple[str, ...], ...]:
    """Cells of a board from whole numbers; 0 is empty."""
    return tuple(tuple(str(value) if value else "." for value in line) for line in cells)


def characters(lines: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Cells of a board from lines of characters, or of symbols."""
    return tuple(map(tuple, lines))


def describe(scene: Scene) -> str:
    """Write a scene as text.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    str

    Examples
    --------
    >>> print(describe(Board(characters(["#.", ".."]), left=("1", "2"))))
    left: 1 2
    # .
    . .
    """
    match scene:
        case Board():
            sides = ("above", "below", "left", "right")
            clues = [(side, getattr(scene, side)) for side in sides]
            lines = [f"{side}: {' '.join(found)}" for side, found in clues if found]
            width = max(len(symbol) for row in scene.cells for symbol in row)
            lines += [" ".join(s.rjust(width) for s in row).rstrip() for row in scene.cells]
            if scene.regions:
                lines += ["regions:", *(" ".join(row) for row in scene.regions)]
        case Network():
            arrow = "->" if scene.directed else "-"
            edges = (
                f"{a}{arrow}{b}" + (f":{label}" if label else "") for a, b, label in scene.edges
            )
            lines = ["nodes: " + " ".join(scene.nodes), "edges: " + " ".join(edges)]
        case Bars():
            lines = [" ".join(map(str, scene.values))]
    return "\n".join([*lines, *scene.notes])


def paint(scene: Scene) -> Image:
    """Draw a scene (needs Pillow).

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    from PIL import Image, ImageDraw, ImageFont

    match scene:
        case Board():
            # A clue column is as wide as its longest clue: nonograms have several numbers.
            letters = max((len(clue) for clue in (*scene.left, *scene.above)), default=0)
            margin = _CELL + 9 * letters
            width = 2 * margin + _CELL * len(scene.cells[0])
            height = 2 * margin + _CELL * len(scene.cells)
        case Network():
            width = height = 220 + 26 * len(scene.nodes)
        case Bars():
            width, height = 60 + 30 * len(scene.values), 300
    font, small = ImageFont.load_default(_NUMBER), ImageFont.load_default(_NOTE)
    width = max([width, *(20 + int(small.getlength(note)) for note in scene.notes)])
    image = Image.new("RGB", (width, height + 20 * len(scene.notes)), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.font = font
    match scene:
        case Board():
            _paint_board(draw, scene, margin)
        case Network():
            _paint_network(draw, scene, width)
        case Bars():
            _paint_bars(draw, scene, height)
    for line, note in enumerate(scene.notes):
        draw.text((10, height + 20 * line), note, fill=_INK, font=small)
    return image


def _paint_board(draw: ImageDraw, scene: Board, margin: int) -> None:
    rows, cols = len(scene.cells), len(scene.cells[0])
    for r, row in enumerate(scene.cells):
        for c, symbol in enumerate(row):
            x, y = margin + c * _CELL, margin + r * _CELL
            filled = _INK if symbol == "#" else _PAPER if symbol == "." else _SHADE
            draw.rectangle((x, y, x + _CELL, y + _CELL), fill=filled, outline=_PALE)
            if symbol not in "#.":
                draw.text((x + _CELL / 2, y + _CELL / 2), symbol, fill=_INK, anchor="mm")
    for r, region in enumerate(scene.regions):
        for c, letter in enumerate(region):
            x, y = margin + c * _CELL, margin + r * _CELL
            if c + 1 < cols and region[c + 1] != letter:
                draw.line((x + _CELL, y, x + _CELL, y + _CELL), fill=_INK, width=3)
            if r + 1 < rows and scene.regions[r + 1][c] != letter:
                draw.line((x, y + _CELL, x + _CELL, y + _CELL), fill=_INK, width=3)
            draw.text((x + 3, y + 1), letter, fill=_PALE)
    draw.rectangle(
        (margin, margin, margin + cols * _CELL, margin + rows * _CELL), outline=_INK, width=3
    )
    for clues, beside in ((scene.left, -0.25), (scene.right, cols + 0.25)):
        for r, clue in enumerate(clues):
            place = (margin + beside * _CELL, margin + (r + 0.5) * _CELL)
            draw.text(place, clue, fill=_INK, anchor="rm" if beside < 0 else "lm")
    for clues, beside in ((scene.above, -0.25), (scene.below, rows + 0.25)):
        for c, clue in enumerate(clues):
            stacked = clue.replace(",", "\n")
            place = (margin + (c + 0.5) * _CELL, margin + beside * _CELL)
            draw.text(
                place, stacked, fill=_INK, anchor="md" if beside < 0 else "ma", align="center"
            )


def _paint_network(draw: ImageDraw, scene: Network, size: int) -> None:
    middle, radius, dot = size / 2, size / 2 - 30, 15
    n = len(scene.nodes)
    places = {
        node: (middle + radius * sin(2 * pi * i / n), middle - radius * cos(2 * pi * i / n))
        for i, node in enumerate(scene.nodes)
    }
    for a, b, label in scene.edges:
        (x, y), (u, v) = places[a], places[b]
        draw.line((x, y, u, v), fill=_PALE if label else _INK, width=2)
        # Labels and arrow heads stand off the middle, where many edges cross.
        at = (x + 0.35 * (u - x), y + 0.35 * (v - y))
        if scene.directed:
            length = max(((u - x) ** 2 + (v - y) ** 2) ** 0.5, 1.0)
            dx, dy = (u - x) / length, (v - y) / length
            tip = (u - dot * dx, v - dot * dy)
            back = (tip[0] - 10 * dx, tip[1] - 10 * dy)
            wings = [(back[0] - s * 5 * dy, back[1] + s * 5 * dx) for s in (1, -1)]
            draw.polygon([tip, *wings], fill=_INK)
        if label:
            draw.text(at, label, fill=_INK, anchor="mm", stroke_width=3, stroke_fill=_PAPER)
    for node, (x, y) in places.items():
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=_SHADE, outline=_INK)
        draw.text((x, y), node, fill=_INK, anchor="mm")


def _paint_bars(draw: ImageDraw, scene: Bars, height: int) -> None:
    scale = (height - 70) / max(1, *scene.values)
    for i, value in enumerate(scene.values):
        x, foot = 30 + 30 * i, height - 30
        draw.rectangle((x, foot - scale * value, x + 22, foot), fill=_SHADE, outline=_INK)
        draw.text((x + 11, foot + 5), str(value), fill=_INK, anchor="ma")
