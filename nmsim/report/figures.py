"""Pictures: a figure in the house style that a notebook shows by itself and a file takes as PNG or SVG."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from nmsim.errors import UnsupportedError, unknown
from nmsim.files import atomic_write
from nmsim.report.style import COLUMN, DPI, house_style

FORMATS = ("png", "svg")
NOTEBOOK_DPI = 100
_TIMELESS = {"png": {"Software": None}, "svg": {"Date": None}}
"""What keeps the file of a figure the same whenever it is written."""


class Picture(Figure):
    """A figure that needs no pyplot: the last line of a notebook cell shows it."""

    def _repr_png_(self) -> bytes:
        return image(self, "png", NOTEBOOK_DPI)


def picture(width: float = COLUMN, height: float = 3.6, title: str = "") -> Picture:
    """An empty figure of this size (inches) with its title at the left; make it within `house_style`."""
    figure = Picture(figsize=(width, height))
    if title:
        figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def image(figure: Figure, format: str = "png", dpi: float | None = None) -> bytes:
    """The figure as the contents of a PNG or SVG file; raises UnsupportedError for another format."""
    if format not in FORMATS:
        raise UnsupportedError(unknown("picture format", format, FORMATS))
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in scripts that the font lacks
        buffer = io.BytesIO()
        figure.savefig(buffer, format=format, dpi=dpi or "figure", metadata=_TIMELESS[format])
        return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG image."""
    return image(figure, "png", DPI)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG or SVG, as the name of the file ends, whole or not at all.

    Raises UnsupportedError for another ending, OSError.
    """
    kind = format_of(path)
    atomic_write(path, image(figure, kind, DPI))


def format_of(path: str | os.PathLike[str]) -> str:
    """The picture format that the name of a file asks for; raises UnsupportedError if it is none."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise UnsupportedError(f"{os.fspath(path)}: a picture's name ends in .png or .svg")
    return ending
