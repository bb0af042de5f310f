"""One look for every plot: sizes for a column of text, colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

P = ParamSpec("P")
T = TypeVar("T")

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

COMPONENT_COLOURS = {
    "mac": BLUE, "cores": SKY, "buffers": GREEN, "dram": ORANGE, "vector": PURPLE, "reduction": VERMILION,
    "static": "#A6A6A6", "select": "#B30059", "registers": YELLOW, "noc": "#7F4A00", "stream": "#5D5D5D",
    "update": BLACK,
}  # fmt: skip
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, "#7F4A00", YELLOW)
"""Colours of series without a meaning of their own, each with its mark, so that colour never stands alone."""
MARKS = "os^Dvp*XP"

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
    "svg.hashsalt": "nmsim",
}


TIMES = ((3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
"""Units of an axis, largest first."""


def scaled(values: Sequence[float], units: Sequence[tuple[float, str]] = TIMES) -> tuple[float, str]:
    """The factor and unit in which the largest of some values is at least 1; hours from 10,000 s on."""
    largest = max(values, default=0.0)
    for size, unit in units:
        if largest >= (1e4 if unit == "h" else size):
            return 1 / size, unit
    return 1 / units[-1][0], units[-1][1]


@contextmanager
def house_style() -> Iterator[None]:
    """The house style within, whatever style the caller has set; it does not leak."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """The plot drawn in the house style."""

    @wraps(draw)
    def in_style(*args: P.args, **options: P.kwargs) -> T:
        with house_style():
            return draw(*args, **options)

    return in_style


def coloured(names: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """A colour for each name: its own where it has one, else the next of SERIES that is not taken."""
    free = (colour for colour in SERIES * (1 + len(names) // len(SERIES)) if colour not in known.values())
    return {name: known.get(name) or next(free, GREY) for name in names}


def grid(axes: Axes, axis: Any = "both") -> None:
    """Faint lines behind the data."""
    axes.grid(axis=axis, linewidth=0.4, color=GREY, alpha=0.5)


def legend_below(axes: Axes, title: str = "", room: float = 32.0, columns: int = 6, of: Axes | None = None) -> None:
    """The legend (of other axes, if given) under the axis label, in rows, `room` points below the axes.

    Nothing where nothing has a label.
    """
    from matplotlib.transforms import ScaledTranslation

    handles, labels = (of or axes).get_legend_handles_labels()
    if not handles:
        return
    shift = ScaledTranslation(0, -room / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=axes.transAxes + shift,
        ncols=min(len(labels), columns), columnspacing=1.0, title=title or None, borderaxespad=0.0,
    )  # fmt: skip
