"""Quantities with units: the only place where they are parsed and formatted."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from nmsim.errors import NmsimError, nearest


class UnitError(NmsimError, ValueError):
    """A quantity without a unit, with a unit of something else, or with a number that makes no sense."""


_PREFIX: Final[dict[str, str | int]] = {
    "f": "1e-15", "p": "1e-12", "n": "1e-9", "u": "1e-6", "µ": "1e-6", "m": "1e-3", "": "1",
    "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12", "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_BIT: Final = Decimal("0.125")  # of a byte


def _scaled(unit: str, names: str, per_unit: Decimal = Decimal(1)) -> dict[str, Decimal]:
    """Each of `names`, prefixed forms of `unit`, with its SI value when one `unit` is `per_unit`."""
    return {name: Decimal(_PREFIX[name.removesuffix(unit)]) * per_unit for name in names.split()}


# What `format_quantity` prints, in ascending order.
_PRINTED: Final = {
    "frequency": _scaled("Hz", "Hz kHz MHz GHz"),
    "bandwidth": _scaled("B/s", "B/s kB/s MB/s GB/s TB/s"),
    "size": _scaled("B", "B kB MB GB TB"),
    "bytes_per_cycle": {"B/clk": Decimal(1)},
    "time": _scaled("s", "ps ns us ms s"),
    "energy": _scaled("J", "fJ pJ nJ uJ mJ J"),
    "energy_per_bit": _scaled("J/bit", "fJ/bit pJ/bit nJ/bit"),
    "power": _scaled("W", "uW mW W kW"),
    "length": _scaled("m", "nm"),
}
_ALSO_READ: Final = {
    "bandwidth": _scaled("B/s", "KiB/s MiB/s GiB/s TiB/s") | _scaled("b/s", "b/s kb/s Mb/s Gb/s Tb/s", _BIT),
    "size": _scaled("B", "KiB MiB GiB TiB") | {"bit": _BIT},
    "bytes_per_cycle": {"B/cycle": Decimal(1)},
    "time": _scaled("s", "µs"),
    "energy": _scaled("J", "µJ"),
    "energy_per_bit": _scaled("J/B", "fJ/B pJ/B nJ/B", _BIT),
    "power": _scaled("W", "µW"),
}
_UNITS: Final = {d: printed | _ALSO_READ.get(d, {}) for d, printed in _PRINTED.items()}

_EXAMPLES: Final = {
    "frequency": "1.2 GHz", "bandwidth": "25.6 GB/s", "size": "64 KiB", "bytes_per_cycle": "128 B/clk",
    "time": "10 ns", "energy": "0.4 pJ", "energy_per_bit": "3.9 pJ/bit", "power": "250 W", "length": "7 nm",
}  # fmt: skip
_NAMES: Final = {
    "bytes_per_cycle": "a number of bytes per cycle", "energy": "an energy", "energy_per_bit": "an energy per bit"
}  # fmt: skip

_MAX_TEXT: Final = 64
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*(.*)", re.DOTALL)


def units_of(dimension: str) -> tuple[str, ...]:
    """The units that a quantity of `dimension` may be written in."""
    return tuple(_UNITS[dimension])


def example_of(dimension: str) -> str:
    """A well-written quantity of `dimension`, for messages and schemas."""
    return _EXAMPLES[dimension]


def parse_quantity(
    text: str | int | float, dimension: str, *, allow_zero: bool = False, minimum: float | None = None
) -> float:
    """The value that `text` writes, as "25.6 GB/s", in SI base units (bytes where the unit counts bytes or bits).

    The result is above 0, or at least 0 with `allow_zero`, and not below `minimum` (in base units).
    Raises UnitError for a number without a unit, an unknown unit, and a value out of this range; raises KeyError
    for an unknown `dimension`, which only a programmer can write.
    """
    units = _UNITS[dimension]
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise UnitError(f"expected {_named(dimension)} such as {example_of(dimension)!r}, got {_short(text)}")
    written = str(text).strip()
    match = _QUANTITY.fullmatch(written) if len(written) <= _MAX_TEXT else None
    if match is None:
        raise UnitError(f"{_short(written)} is not {_named(dimension)}; write it as {example_of(dimension)!r}")
    number, unit = match.groups()
    if not unit:
        raise UnitError(f"{written!r} needs a unit: one of {', '.join(units)}")
    if unit not in units:
        raise UnitError(_unknown_unit(unit, dimension))
    value = float(Decimal(number) * units[unit])
    _check_range(value, written, dimension, allow_zero, minimum)
    return value


def format_quantity(value: float, dimension: str, digits: int = 4) -> str:
    """`value` (SI base units) with the unit that puts it in 1..1000, as "25.6 GB/s", to `digits` significant digits.

    `parse_quantity` reads the text back, to these digits. Values beyond the units keep the outermost one.
    """
    ladder = list(_PRINTED[dimension].items())
    base = next((item for item in ladder if item[1] == 1), ladder[0])
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {base[0]}"
    rounded = abs(float(f"{value:.{digits}g}"))  # 999.96 MB/s to 4 digits is 1 GB/s
    unit, scale = next((item for item in reversed(ladder) if float(item[1]) <= rounded), ladder[0])
    return f"{value / float(scale):.{digits}g} {unit}"


def _check_range(value: float, written: str, dimension: str, allow_zero: bool, minimum: float | None) -> None:
    if not math.isfinite(value):
        raise UnitError(f"{written!r} is too large")
    if value < 0 or (value == 0 and not allow_zero):
        bound = "must not be negative" if allow_zero else "must be greater than 0"
        raise UnitError(f"{_named(dimension)} {bound}, got {written!r}")
    if minimum is not None and value < minimum:
        raise UnitError(f"must be at least {format_quantity(minimum, dimension)}, got {written!r}")


def _named(dimension: str) -> str:
    return _NAMES.get(dimension, f"a {dimension}")


def _unknown_unit(unit: str, dimension: str) -> str:
    units = units_of(dimension)
    # Only case tells Gb/s from GB/s: all that differ in case alone are named, else the nearest (bytes before bits).
    close = [u for u in units if u.casefold() == unit.casefold()] or nearest(unit, reversed(units), limit=1)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"unknown unit {_short(unit)} for {_named(dimension)}; {hint}allowed: {', '.join(units)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
