"""Packing: an array written into a format of `formats`, and read back."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.detect import nonzeros, violations
from nmsim.sparsity.formats import POINTER_BITS, column_bits, columns_kept, index_bits, slot_bits, stored_format
from nmsim.sparsity.groups import TILE_COLUMNS, Array, Mask, as_planes, from_planes, resolve
from nmsim.sparsity.mask import tile_columns, top_n_mask
from nmsim.sparsity.pattern import Pattern


@dataclass(frozen=True, eq=False)
class Packed:
    """An array in a packed layout: `values` in the array's type and `metadata` as bytes (uint8)."""

    shape: tuple[int, ...]
    axis: int
    pattern: Pattern
    format: str
    values: Array
    metadata: NDArray[np.uint8]

    @property
    def value_bytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        """Bytes of the metadata."""
        return self.metadata.nbytes

    @property
    def size_bytes(self) -> int:
        """Bytes of values and metadata."""
        return self.value_bytes + self.metadata_bytes


def pack(array: ArrayLike, pattern: Pattern | str, format: str, axis: int | None = None) -> Packed:
    """The array in a packed layout, any type of number; `unpack` gives it back (-0.0 as 0.0 unless `dense`).

    `axis` None means the pattern's own. Raises PatternError when the array does not obey the pattern, saying
    how many groups break it, for an unknown format and for `combinatorial`, which is a size only; ShapeError for
    an array without elements.
    """
    array = np.asarray(array)
    pattern, axis = resolve(pattern, axis, array.ndim)
    stored_as = stored_format(pattern, format)
    nonzero = nonzeros(array)
    if array.size == 0:
        raise ShapeError(f"nothing to pack: shape {list(array.shape)}")
    if stored_as == "combinatorial":
        raise PatternError("combinatorial is a bound on the size, not a layout; nothing can be packed in it")
    if broken := violations(nonzero, pattern, axis):
        raise PatternError(f"the array is not {pattern} along axis {axis}: {broken} groups hold too many non-zeros")
    pack_planes = {"dense": _pack_dense, "packed": _pack_slots, "bitmask": _pack_bitmask, "csr": _pack_csr}
    values, metadata = pack_planes[stored_as](as_planes(array, axis), as_planes(nonzero, axis), pattern)
    return Packed(array.shape, axis, pattern.along(axis), format, values, metadata)


def unpack(packed: Packed) -> Array:
    """The array that was packed, C-ordered, in its type."""
    planes = np.zeros_like(as_planes(np.empty(packed.shape, packed.values.dtype), packed.axis), order="C")
    unpack_into = {
        "dense": _unpack_dense,
        "packed": _unpack_slots,
        "bitmask": _unpack_bitmask,
        "csr": _unpack_csr,
    }
    unpack_into[stored_format(packed.pattern, packed.format)](packed, planes)
    return from_planes(planes, packed.shape, packed.axis)


def _pack_dense(planes: Array, nonzero: Mask, pattern: Pattern) -> tuple[Array, NDArray[np.uint8]]:
    return planes.reshape(-1).copy(), np.zeros(0, np.uint8)


def _pack_slots(planes: Array, nonzero: Mask, pattern: Pattern) -> tuple[Array, NDArray[np.uint8]]:
    """Slots that the non-zeros leave free hold the zeros of lowest index, so that no place comes twice."""
    slots = top_n_mask(nonzero, pattern, axis=-1)
    places = np.flatnonzero(slots) % planes.shape[2]
    width = slot_bits(pattern, planes.shape[2])
    if pattern.kind == "fan_in":
        return planes[slots], _to_bytes(_bits_of(places, width))
    if pattern.kind == "nm":
        return planes[slots], _to_bytes(_bits_of(places % pattern.m, width))
    columns = tile_columns(nonzero, pattern.v, pattern.m)
    # A whole group has exactly 4 kept columns, so a running count modulo 4 is the place among them.
    order = np.repeat((np.cumsum(columns, axis=2) - 1) % TILE_COLUMNS, pattern.v, axis=1)[:, : planes.shape[1]]
    selectors = np.flatnonzero(columns) % planes.shape[2] % pattern.m
    fields = (_bits_of(order[slots], width), _bits_of(selectors, index_bits(pattern.m)))
    return planes[slots], _to_bytes(np.concatenate(fields))


def _pack_bitmask(planes: Array, nonzero: Mask, pattern: Pattern) -> tuple[Array, NDArray[np.uint8]]:
    return planes[nonzero], _to_bytes(nonzero.reshape(-1))


def _pack_csr(planes: Array, nonzero: Mask, pattern: Pattern) -> tuple[Array, NDArray[np.uint8]]:
    rows = nonzero.reshape(-1, nonzero.shape[2])
    columns = np.nonzero(rows)[1].astype(f"<u{column_bits(rows.shape[1]) // 8}")
    pointers = np.concatenate(([0], np.cumsum(np.count_nonzero(rows, axis=1)))).astype("<u4")
    return planes[nonzero], np.concatenate((columns.view(np.uint8), pointers.view(np.uint8)))


def _unpack_dense(packed: Packed, planes: Array) -> None:
    planes[:] = packed.values.reshape(planes.shape)


def _unpack_slots(packed: Packed, planes: Array) -> None:
    pattern, (count, rows, length) = packed.pattern, planes.shape
    kept = pattern.kept(length)
    bits = np.unpackbits(packed.metadata, bitorder="little")
    width = slot_bits(pattern, length)
    places = _fields(bits, width, count * rows * kept).reshape(count, rows, kept)
    if pattern.has_groups:
        group = np.arange(kept) // pattern.n
        if pattern.kind == "vnm":
            tiles, per_tile = ceil(rows / pattern.v), columns_kept(pattern, length)
            selectors = _fields(bits[places.size * width :], index_bits(pattern.m), count * tiles * per_tile)
            shared = np.repeat(selectors.reshape(count, tiles, per_tile), pattern.v, axis=1)[:, :rows]
            places = np.take_along_axis(shared, group * TILE_COLUMNS + places, axis=2)
        places = group * pattern.m + places
    np.put_along_axis(planes, places, packed.values.reshape(places.shape), axis=2)


def _unpack_bitmask(packed: Packed, planes: Array) -> None:
    bits = np.unpackbits(packed.metadata, count=planes.size, bitorder="little")
    planes[bits.view(np.bool_).reshape(planes.shape)] = packed.values


def _unpack_csr(packed: Packed, planes: Array) -> None:
    rows = planes.reshape(-1, planes.shape[2])
    split = packed.metadata.size - (len(rows) + 1) * POINTER_BITS // 8
    columns = packed.metadata[:split].view(f"<u{column_bits(rows.shape[1]) // 8}")
    # The pointers follow the columns at any byte, so they are copied to where 32-bit words may lie.
    pointers = np.frombuffer(packed.metadata[split:].tobytes(), "<u4")
    rows[np.repeat(np.arange(len(rows)), np.diff(pointers)), columns] = packed.values


def _bits_of(fields: Array, width: int) -> NDArray[np.uint8]:
    """The lowest `width` bits of each field, lowest first, one per byte."""
    narrow = fields.astype(np.uint8 if width <= 8 else np.uint32)
    return ((narrow[:, None] >> np.arange(width, dtype=narrow.dtype)) & 1).astype(np.uint8, copy=False).reshape(-1)


def _to_bytes(bits: Array) -> NDArray[np.uint8]:
    return np.packbits(bits, bitorder="little")


def _fields(bits: NDArray[np.uint8], width: int, count: int) -> NDArray[np.intp]:
    """The first `count` fields of `width` bits of a stream given one bit per byte."""
    matrix = bits[: count * width].reshape(count, width)
    fields = np.zeros(count, np.intp)
    for place in range(width):
        fields |= matrix[:, place].astype(np.intp) << place
    return fields
