"""Field types for the models of files: quantities with units, which become floats in SI base units, and counts."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from nmsim import units


def _schema(dimension: str) -> dict[str, Any]:
    allowed = "|".join(re.escape(u).replace("/", "\\/") for u in units.units_of(dimension))
    return {
        "type": "string",
        "pattern": rf"^\s*[0-9.]+([eE][+-]?[0-9]+)?\s*({allowed})\s*$",
        "examples": [units.example_of(dimension)],
    }


def _parser(dimension: str, *, allow_zero: bool = False) -> BeforeValidator:
    return BeforeValidator(partial(units.parse_quantity, dimension=dimension, allow_zero=allow_zero))


Frequency = Annotated[float, _parser("frequency"), WithJsonSchema(_schema("frequency"))]
Bandwidth = Annotated[float, _parser("bandwidth"), WithJsonSchema(_schema("bandwidth"))]
Size = Annotated[float, _parser("size"), WithJsonSchema(_schema("size"))]
BytesPerCycle = Annotated[float, _parser("bytes_per_cycle"), WithJsonSchema(_schema("bytes_per_cycle"))]
Node = Annotated[float, _parser("length"), WithJsonSchema(_schema("length"))]

# Zero is a sensible cost: a latency, an energy or a static power that is left out of the account on purpose.
Time = Annotated[float, _parser("time", allow_zero=True), WithJsonSchema(_schema("time"))]
Energy = Annotated[float, _parser("energy", allow_zero=True), WithJsonSchema(_schema("energy"))]
EnergyPerBit = Annotated[float, _parser("energy_per_bit", allow_zero=True), WithJsonSchema(_schema("energy_per_bit"))]
Power = Annotated[float, _parser("power", allow_zero=True), WithJsonSchema(_schema("power"))]

Count = Annotated[int, Field(ge=1)]
