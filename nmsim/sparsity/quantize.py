"""Quantisation of weights: max-abs scales, codes, straight-through gradients, and its order with sparsity.

A block of weights that shares a scale s is stored as codes of w/s, s = max|w| / (largest value of the format), and
read back as s times their values. A block is the whole array, all that shares an index of an axis (a channel), or
`group` consecutive elements along an axis.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.sparsity.formats import Size, size_bytes
from nmsim.sparsity.groups import Array, Mask
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.numbers import NumberFormat, number_format, pack_int4
from nmsim.sparsity.pattern import Pattern

SCALES = ("kept", "all")


@dataclass(frozen=True, eq=False)
class Quantized:
    """An array as codes (int8 or uint8, one an element, of its shape) and scales, one per block.

    `scale` has 1 in place of each axis that a block spans, and ceil(length / group) along a grouped axis.
    """

    codes: Array
    scale: Array
    format: NumberFormat
    axis: int | None = None
    group: int | None = None

    def dequantize(self) -> NDArray[np.float32]:
        """The values that the codes stand for, float32."""
        return (self.format.decode(self.codes) * self._spread()).astype(np.float32)

    def _spread(self) -> Array:
        return _spread(self.scale.astype(np.float64), self.codes.shape, self.axis, self.group)

    @property
    def packed(self) -> NDArray[np.uint8]:
        """The codes as they are stored, in C order: a byte each, or two to a byte."""
        return pack_int4(self.codes) if self.format.bits == 4 else self.codes.reshape(-1).view(np.uint8)

    @property
    def size_bytes(self) -> int:
        """Bytes of the codes and the scales, every element stored."""
        return -(-self.codes.size * self.format.bits // 8) + self.scale.nbytes

    def sparse_size(self, pattern: Pattern | str, format: str = "packed", axis: int | None = None) -> Size:
        """Bytes of values and metadata in a layout of `nmsim.sparsity.formats`, the scales counted as metadata."""
        size = size_bytes(self.codes.shape, pattern, self.format.bits, format, axis)
        return Size(size.values, size.metadata + self.scale.nbytes)


@dataclass(frozen=True, eq=False)
class Compressed:
    """A weight both sparse and quantised: what it is read back as, the mask of what is kept, and the codes."""

    weight: Array
    mask: Mask
    quantized: Quantized


def max_abs_scale(
    array: ArrayLike,
    format: str | NumberFormat,
    axis: int | None = None,
    group: int | None = None,
    dtype: DTypeLike = np.float32,
) -> Array:
    """max|x| / (largest value of the format) of each block, of this type; 1 for a block of zeros.

    By `axis` and `group`: neither, one block; `axis`, a block per index of it; both, one per `group` consecutive
    elements along it (a shorter tail is a block). Raises UnsupportedError for an unknown format and values that are
    no finite numbers or whose scale is none in the type, ShapeError for an axis or group that the array cannot have.
    """
    array, fmt = _numbers(array), number_format(format)
    largest = _block_max(np.abs(array.astype(np.float64)), _axis(array, axis, group), group)
    with np.errstate(over="ignore"):
        scale = (largest / fmt.largest).astype(dtype)
    if not np.isfinite(scale).all():
        raise UnsupportedError(f"a scale of {largest.max() / fmt.largest:.4g} is no finite {np.dtype(dtype)}")
    scale = np.maximum(scale, np.finfo(scale.dtype).smallest_subnormal)  # where the division underflows
    return np.where(largest == 0, 1, scale).astype(dtype)


def quantize(
    array: ArrayLike,
    format: str | NumberFormat,
    axis: int | None = None,
    group: int | None = None,
    scale: ArrayLike | None = None,
    scale_dtype: DTypeLike = np.float32,
) -> Quantized:
    """The array as codes of array / scale, rounded to nearest with ties to even, saturating.

    `axis` and `group` lay out the blocks as in `max_abs_scale`, which gives the scales where there is no `scale`; a
    given one must have the shape that it would give, or be one number. Raises as it does, and UnsupportedError for a
    scale that is not positive and finite.
    """
    array, fmt = _numbers(array), number_format(format)
    place = _axis(array, axis, group)
    found = max_abs_scale(array, fmt, place, group, scale_dtype) if scale is None else None
    scales = _given(scale, array, place, group, scale_dtype) if found is None else found
    spread = _spread(scales.astype(np.float64), array.shape, place, group)
    return Quantized(fmt.encode(array.astype(np.float64) / spread), scales, fmt, place, group)


def fake_quantize(
    array: ArrayLike,
    format: str | NumberFormat,
    axis: int | None = None,
    group: int | None = None,
    scale: ArrayLike | None = None,
) -> Array:
    """The array rounded to what its codes stand for, in its own floating-point type; arguments as of `quantize`."""
    array = _numbers(array)
    rounded = quantize(array, format, axis, group, scale).dequantize()
    return rounded.astype(array.dtype if array.dtype.kind == "f" else np.float32)


def sparsify_then_quantize(
    weight: ArrayLike,
    pattern: Pattern | str,
    format: str | NumberFormat,
    axis: int | None = None,
    *,
    scale_axis: int | None = None,
    group: int | None = None,
    scales: str = "kept",
) -> Compressed:
    """The mask by magnitude of the weight itself, then codes of what it keeps.

    `axis` is that of the pattern's groups (None: the pattern's own); `scale_axis` and `group` are `axis` and `group`
    of `quantize`. The scales are those of the `kept` weights or of `all`; the two are the same where every block of
    a scale consists of whole groups of the pattern, since a group keeps its largest weight. Raises as `quantize` and
    `magnitude_mask`.
    """
    weight = _numbers(weight)
    mask = magnitude_mask(weight, pattern, axis)
    kept = np.where(mask, weight, 0)
    if scales not in SCALES:
        raise UnsupportedError(unknown("choice of scales", scales, SCALES))
    scale = max_abs_scale(kept if scales == "kept" else weight, format, scale_axis, group)
    return _compressed(quantize(kept, format, scale_axis, group, scale), mask)


def quantize_then_sparsify(
    weight: ArrayLike,
    pattern: Pattern | str,
    format: str | NumberFormat,
    axis: int | None = None,
    *,
    scale_axis: int | None = None,
    group: int | None = None,
) -> Compressed:
    """Codes of all weights, then the mask by magnitude of what they stand for; arguments as of the other order.

    Weights that round to the same value tie, and the lower index is kept: the mask may drop the larger weight.
    """
    codes = quantize(weight, format, scale_axis, group)
    return _compressed(codes, magnitude_mask(codes.dequantize(), pattern, axis))


def weight_error(weight: ArrayLike, approximation: ArrayLike) -> float:
    """The Frobenius norm of weight - approximation; raises ShapeError where the shapes differ."""
    return float(np.linalg.norm(_difference(weight, approximation)))


def output_error(inputs: ArrayLike, weight: ArrayLike, approximation: ArrayLike) -> float:
    """The Frobenius norm of x (W - Ŵ)ᵀ for inputs x [samples, in] and a weight W [out, in]; raises ShapeError."""
    x, difference = np.asarray(inputs, dtype=np.float64), _difference(weight, approximation)
    if x.ndim != 2 or difference.ndim != 2 or x.shape[1] != difference.shape[1]:
        raise ShapeError(f"inputs [samples, in] and a weight [out, in], not {list(x.shape)} and {difference.shape}")
    return float(np.linalg.norm(x @ difference.T))


def compare_orders(
    weight: ArrayLike,
    pattern: Pattern | str,
    format: str | NumberFormat,
    axis: int | None = None,
    *,
    scale_axis: int | None = None,
    group: int | None = None,
    inputs: ArrayLike | None = None,
) -> dict[str, float]:
    """The error of both orders, `sparsify_first` and `quantize_first`: of the output for `inputs`, else the weight.

    Where the weights of each pattern group share a scale, and it is the same in both orders, the first never has the
    larger weight error: keeping w as q = Q(w) lowers the squared error by w^2 - (w - q)^2 = |q| (2|w| - |q|), which
    for rounding to nearest is a continuous, non-decreasing function of |w|, so that the largest |w| of a group are
    the best to keep. Nothing of the kind holds for the output error. Harma et al. (arXiv 2405.20935) bound the error of
    the first by the sum of the errors of its steps and show that the second may exceed that sum.
    """
    blocks: dict[str, Any] = {"scale_axis": scale_axis, "group": group}
    orders = {"sparsify_first": sparsify_then_quantize, "quantize_first": quantize_then_sparsify}
    found = {name: order(weight, pattern, format, axis, **blocks).weight for name, order in orders.items()}
    if inputs is None:
        return {name: weight_error(weight, approximation) for name, approximation in found.items()}
    return {name: output_error(inputs, weight, approximation) for name, approximation in found.items()}


def _compressed(quantized: Quantized, mask: Mask) -> Compressed:
    """The codes with those of dropped elements set to that of +0."""
    codes = np.where(mask, quantized.codes, 0).astype(quantized.codes.dtype)
    kept = Quantized(codes, quantized.scale, quantized.format, quantized.axis, quantized.group)
    return Compressed(kept.dequantize(), mask, kept)


def _difference(weight: ArrayLike, approximation: ArrayLike) -> NDArray[np.float64]:
    a, b = (np.asarray(x, dtype=np.float64) for x in (weight, approximation))
    if a.shape != b.shape:
        raise ShapeError(f"shapes differ: {list(a.shape)} and {list(b.shape)}")
    return a - b


def _numbers(array: ArrayLike) -> Array:
    values = np.asarray(array)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        bad = values.dtype if values.dtype.kind not in "iuf" else f"{int((~np.isfinite(values)).sum())} not finite"
        raise UnsupportedError(f"only finite real numbers can be quantised; of {values.size} values: {bad}")
    if values.size == 0:
        raise ShapeError(f"nothing to quantise: shape {list(values.shape)}")
    return values


def _axis(array: Array, axis: int | None, group: int | None) -> int | None:
    """The axis counted from 0; raises ShapeError where axis and group lay out no blocks."""
    if axis is None:
        if group is not None:
            raise ShapeError(f"groups of {group} elements need the axis along which they run")
        return None
    if not hasattr(axis, "__index__") or not -array.ndim <= axis < array.ndim:
        raise ShapeError(f"no axis {axis!r:.60} for scales: the array has {array.ndim} axes")
    if group is not None and (isinstance(group, bool) or not hasattr(group, "__index__") or group < 1):
        raise ShapeError(f"a group of scales is a whole number of elements, at least 1, not {group!r:.60}")
    return operator.index(axis) % array.ndim


def _block_max(size: Array, axis: int | None, group: int | None) -> Array:
    if axis is None:
        return size.max(keepdims=True)
    if group is None:
        return size.max(axis=tuple(i for i in range(size.ndim) if i != axis), keepdims=True)
    return np.maximum.reduceat(size, np.arange(0, size.shape[axis], group), axis=axis)


def _spread(scale: Array, shape: tuple[int, ...], axis: int | None, group: int | None) -> Array:
    """The scales in a shape that broadcasts over the array."""
    if axis is None or group is None:
        return scale
    return np.repeat(scale, group, axis=axis).take(np.arange(shape[axis]), axis=axis)


def _given(scale: ArrayLike | None, array: Array, axis: int | None, group: int | None, dtype: DTypeLike) -> Array:
    """A scale given by the caller, in the shape of one per block."""
    given = np.asarray(scale, dtype=dtype)
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise UnsupportedError("scales must be positive and finite")
    shape = _block_max(np.zeros(array.shape, np.uint8), axis, group).shape
    if given.shape not in (shape, ()):
        raise ShapeError(f"scales of shape {list(given.shape)}; one number, or one per block: {list(shape)}")
    return np.broadcast_to(given, shape).copy()
