"""One look for every plot: sizes for a column of text, colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DPI = 150
COLUMN = 5.2
"""Width of a figure, inches; readable when shrunk to a column of 3.5 inches."""

# Okabe and Ito, "Color Universal Design", jfly.uni-koeln.de/color, 2008.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
)  # fmt: skip
GREY, LIGHT = "#8C8C8C", "#D9D9D9"

STAGE_COLOURS = {
    "FF": BLUE, "BP": ORANGE, "WU": GREEN, "PRUNE": VERMILION, "UPDATE": PURPLE, "VECTOR": LIGHT,
}  # fmt: skip
CAUSE_COLOURS = {
    "useful": BLUE, "unskipped": VERMILION, "granularity": ORANGE, "issue": YELLOW, "reduction": "#7F4A00",
    "operand_feed": SKY, "metadata": PURPLE, "l2": GREEN, "fill_drain": "#5D5D5D", "dram": "#A6A6A6", "launch": BLACK,
    "power": "#B30059",
}  # fmt: skip

RC: Any = {  # matplotlib's stubs ask for a Literal of every key
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.handleheight": 0.9,
    "figure.constrained_layout.use": True,
    "savefig.dpi": DPI,
    "text.parse_math": False,
}


def scaled(values: Sequence[float]) -> tuple[float, str]:
    """The factor and unit in which the largest of some times (s) is at least 1."""
    largest = max(values, default=0.0)
    for size, unit in ((3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if largest >= (1e4 if unit == "h" else size):
            return 1 / size, unit
    return 1e9, "ns"
