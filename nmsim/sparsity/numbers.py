"""Narrow number formats of weights: symmetric integers and 8-bit floating point, their codes and exact values.

An integer of b bits is -(2^(b-1) - 1) to 2^(b-1) - 1, the most negative code unused. The floating-point formats are
those of "FP8 formats for deep learning" (arXiv 2209.05433): a sign, e bits of exponent and f of fraction,

    value = (-1)^s 2^(max(E, 1) - bias) ([E > 0] + F / 2^f)

`fp8_e4m3` (bias 7) has no infinity, only the codes with all other bits set are NaN, and 448 is its largest value;
`fp8_e5m2` (bias 15) is IEEE-like, with infinities, and reaches 57344.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.sparsity.groups import Array


@dataclass(frozen=True)
class NumberFormat:
    """A number format: `dtype` is its name in the op table, `exponent_bits` 0 for an integer.

    `overflow_code` is the code that follows the largest finite magnitude: NaN of e4m3, infinity of e5m2.
    """

    name: str
    dtype: str
    bits: int
    exponent_bits: int = 0
    bias: int = 0
    overflow_code: int = 0

    @property
    def is_integer(self) -> bool:
        """Whether the codes are the values themselves."""
        return self.exponent_bits == 0

    @property
    def largest(self) -> float:
        """The largest finite value."""
        if self.is_integer:
            return 2.0 ** (self.bits - 1) - 1
        return float(self.table[self.overflow_code - 1])

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """The value of each of the 256 codes of a floating-point format."""
        code = np.arange(256)
        fraction_bits = 7 - self.exponent_bits
        exponent, fraction = (code & 127) >> fraction_bits, code & ((1 << fraction_bits) - 1)
        significand = (exponent > 0) + fraction / 2.0**fraction_bits
        values = significand * 2.0 ** (np.maximum(exponent, 1) - self.bias)
        magnitude = code & 127
        values[magnitude >= self.overflow_code] = np.nan
        if self.overflow_code & ((1 << fraction_bits) - 1) == 0:  # a fraction of 0 under the highest exponent
            values[magnitude == self.overflow_code] = np.inf
        return np.where(code < 128, values, -values).astype(np.float32)

    @cached_property
    def midpoints(self) -> NDArray[np.float64]:
        """What lies halfway between neighbouring magnitudes, up to the one that would follow the largest."""
        finite = self.table[: self.overflow_code].astype(np.float64)
        return np.concatenate((finite[:-1] + finite[1:], [3 * finite[-1] - finite[-2]])) / 2

    def encode(self, values: ArrayLike, saturate: bool = True) -> Array:
        """The codes of the nearest values, ties to the even code; int8 of integers, uint8 of floating point.

        What lies beyond the largest value becomes the largest; with `saturate` False, which only floating point has,
        what rounds past it becomes infinity (e5m2) or NaN (e4m3). NaN and the sign of zero are kept by floating
        point. Raises UnsupportedError for NaN as an integer and for integers that do not saturate.
        """
        values = np.asarray(values, dtype=np.float64)
        if self.is_integer:
            if not saturate or np.isnan(values).any():
                what = "a NaN" if saturate else "an overflow"
                raise UnsupportedError(f"{self.name} has no code for {what}; allowed: numbers, saturated")
            return np.rint(np.clip(values, -self.largest, self.largest)).astype(np.int8)
        size = np.abs(values)
        below, above = (np.searchsorted(self.midpoints, size, side) for side in ("left", "right"))
        codes = np.where(below % 2 == 0, below, above)  # they differ on a midpoint only
        codes = np.where(np.isnan(values), 127, np.minimum(codes, self.overflow_code - saturate))
        return (codes | (np.signbit(values) << 7)).astype(np.uint8)

    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """The values of codes, exact in float32."""
        codes = np.asarray(codes)
        return codes.astype(np.float32) if self.is_integer else self.table[codes]


NUMBER_FORMATS = {
    f.name: f
    for f in (
        NumberFormat("int8", "int8", 8),
        NumberFormat("int4", "int4", 4),
        NumberFormat("fp8_e4m3", "fp8", 8, exponent_bits=4, bias=7, overflow_code=0x7F),
        NumberFormat("fp8_e5m2", "fp8", 8, exponent_bits=5, bias=15, overflow_code=0x7C),
    )
}


def number_format(name: str | NumberFormat) -> NumberFormat:
    """The format of that name; raises UnsupportedError listing the nearest."""
    if isinstance(name, NumberFormat):
        return name
    if name not in NUMBER_FORMATS:
        raise UnsupportedError(unknown("number format", name, NUMBER_FORMATS))
    return NUMBER_FORMATS[name]


def pack_int4(codes: ArrayLike) -> NDArray[np.uint8]:
    """Codes of int4 two to a byte in C order, the first in the low half, each in two's complement; 0 pads the last."""
    flat = np.asarray(codes).astype(np.uint8).reshape(-1) & 15
    padded = np.concatenate((flat, np.zeros(flat.size % 2, np.uint8)))
    return padded[0::2] | (padded[1::2] << 4)


def unpack_int4(packed: ArrayLike, count: int) -> NDArray[np.int8]:
    """The first `count` codes of bytes that `pack_int4` wrote, int8; raises ShapeError where there are fewer."""
    data = np.asarray(packed, dtype=np.uint8).reshape(-1)
    if not 0 <= count <= 2 * data.size:
        raise ShapeError(f"{data.size} bytes hold 0 to {2 * data.size} codes of 4 bits, not {count}")
    halves = np.stack((data & 15, data >> 4), axis=1).reshape(-1)[:count]
    return ((halves ^ 8).astype(np.int8) - 8).astype(np.int8)
