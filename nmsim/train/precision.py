"""Precision emulation: operands rounded to a narrow type before a product, sums and master weights kept wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.errors import UnsupportedError, unknown


@dataclass(frozen=True)
class Precision:
    """`working` is the NumPy type of activations, weights and sums; `products` the type operands are rounded to."""

    name: str
    working: type[np.floating]
    products: str

    def operand(self, x: np.ndarray) -> np.ndarray:
        """The operand rounded to the type of products, held in the working type."""
        if self.products == "fp16":
            return x.astype(np.float16).astype(x.dtype)
        if self.products == "bf16":
            return round_bf16(x)
        return x


def round_bf16(x: np.ndarray) -> np.ndarray:
    """float32 rounded to 8 bits of significand, ties to even; NaN and infinities are kept."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(x.dtype, copy=False)


FULL = Precision("fp32", np.float32, "fp32")
PRECISIONS = {
    "fp32": FULL,
    "fp64": Precision("fp64", np.float64, "fp64"),
    "fp16": Precision("fp16", np.float32, "fp16"),
    "bf16": Precision("bf16", np.float32, "bf16"),
}


def get_precision(name: str | Precision) -> Precision:
    """The precision of that name: fp32, fp64 (checking mode), fp16 or bf16 products with fp32 sums and masters."""
    if isinstance(name, Precision):
        return name
    if name not in PRECISIONS:
        raise UnsupportedError(unknown("precision", name, PRECISIONS))
    return PRECISIONS[name]
