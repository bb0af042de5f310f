"""Figures in words, written with the unit that keeps them short."""

from __future__ import annotations

import math

from nmsim.units import format_quantity

UNKNOWN = "unknown"

_DIMENSIONS = {"s": "time", "J": "energy", "W": "power", "B": "size", "Hz": "frequency"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_HOUR = 3600.0
_LONG = 1e4  # seconds from which on a time is given in hours


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """`value` in words, as "2.589 s", "262 GMAC/s" or, for the unit "1", "67.1 %"; "unknown" for NaN.

    Times from 10,000 s are given in hours; counts ("cycles") without the word, which the row's name has.
    """
    if not math.isfinite(value):
        return UNKNOWN
    if unit == "1":
        return percent(value)
    if unit == "s" and value >= _LONG:
        return f"{value / _HOUR:,.{_decimals(value / _HOUR, digits)}f} h"
    if unit in _DIMENSIONS and not (unit == "J" and value >= 1000):
        return format_quantity(value, _DIMENSIONS[unit], digits)
    return prefixed(value, "" if unit == "cycles" else unit, digits)


def prefixed(value: float, unit: str = "", digits: int = 4) -> str:
    """`value` with an SI prefix on its unit, as "356 GMAC"."""
    rounded = abs(float(f"{value:.{digits}g}"))
    step = min(int(math.log10(rounded) / 3 + 1e-9), len(_PREFIXES) - 1) if rounded >= 1 else 0
    return f"{value / 1000**step:.{digits}g} {_PREFIXES[step]}{unit}".rstrip()


def percent(share: float) -> str:
    """A share as "13.2 %"; "<0.1 %" for what would round to nothing."""
    if not math.isfinite(share):
        return UNKNOWN
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _decimals(value: float, digits: int) -> int:
    return max(digits - 1 - int(math.log10(value)), 0)
