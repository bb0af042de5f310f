"""What an energy costs: kilowatt-hours, money and carbon dioxide."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from nmsim.errors import UnsupportedError

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Tariff:
    """A price of a kilowatt-hour, in any currency, and the grams of CO2 equivalent that it stands for; None where not
    asked for. `overhead` is what the site draws beside the machine: 1.1 where cooling adds a tenth (PUE)."""

    price_per_kwh: float | None = None
    gco2_per_kwh: float | None = None
    overhead: float = 1.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("price per kWh", self.price_per_kwh, 0.0), ("gCO2 per kWh", self.gco2_per_kwh, 0.0),
            ("overhead (PUE)", self.overhead, 1.0),
        ):  # fmt: skip
            if value is not None and not (isfinite(value) and value >= least):
                raise UnsupportedError(f"the {name} must be a number of at least {least:g}, not {value!r:.60}")


@dataclass(frozen=True)
class Bill:
    """Kilowatt-hours with the site's overhead, and what they cost; None where no price or intensity was given."""

    kwh: float
    price: float | None
    kgco2e: float | None


def bill(energy_j: float, tariff: Tariff) -> Bill:
    """kWh = J / 3.6e6 x overhead; price = kWh x price per kWh; kgCO2e = kWh x grams per kWh / 1000."""
    kwh = energy_j / JOULES_PER_KWH * tariff.overhead
    price = None if tariff.price_per_kwh is None else kwh * tariff.price_per_kwh
    carbon = None if tariff.gco2_per_kwh is None else kwh * tariff.gco2_per_kwh / 1000
    return Bill(kwh, price, carbon)
