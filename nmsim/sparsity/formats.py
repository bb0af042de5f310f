"""Formats of a sparse operand and their exact sizes; `packing` writes and reads them.

The group axis is moved last and the others are its rows, in C order. Formats:

- `dense`: every element, no metadata;
- `packed`: the slots the pattern has (n per group, zeros included) and the place of each slot: ceil(log2 m) bits
  in its group; for V:n:m 2 bits among the tile's 4 columns, then 4 ceil(log2 m) bits per tile; for a fan-in
  ceil(log2 length) bits in its row;
- `bitmask`: the non-zeros and 1 bit per element;
- `combinatorial`: the slots and ceil(log2 C(m, n)) bits per group, the least a fixed-size code can use (size only);
- `csr`: the non-zeros, a column index each of 8, 16 or 32 bits, and rows + 1 row pointers of 32 bits.

Metadata is one little-endian bit stream: field j of width w holds bits j w to j w + w - 1, the lowest first.
A dense pattern leaves nothing out, so every format stores it as `dense`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, prod

from nmsim.errors import PatternError, ShapeError, unknown
from nmsim.sparsity.groups import TILE_COLUMNS, resolve
from nmsim.sparsity.pattern import Pattern

FORMATS = ("dense", "packed", "bitmask", "combinatorial", "csr")
POINTER_BITS = 32
_TILE_INDEX_BITS = 2


@dataclass(frozen=True)
class Size:
    """Bytes of a stored operand: its values and what says where they stand, each rounded up to whole bytes."""

    values: int
    metadata: int

    @property
    def total(self) -> int:
        """Values and metadata, bytes."""
        return self.values + self.metadata


def index_bits(m: int) -> int:
    """Bits that tell m places apart: ceil(log2 m)."""
    return (m - 1).bit_length()


def size_bytes(
    shape: tuple[int, ...],
    pattern: Pattern | str,
    bits: int,
    format: str,
    axis: int | None = None,
    nonzeros: int | None = None,
) -> Size:
    """The exact bytes of an array of this shape, with values of `bits` bits, in a format.

    `nonzeros` is the number of values that `bitmask` and `csr` store; None means all that the pattern allows.
    `axis` None means the pattern's own. Raises PatternError for an unknown format, a format the pattern cannot
    use and more non-zeros than the pattern allows; ShapeError for sizes below 1 and 32-bit pointers overflowing.
    """
    if not isinstance(shape, Sequence) or not all(hasattr(size, "__index__") for size in shape):
        raise ShapeError(f"a shape is a tuple of whole numbers, as (4, 8), not {shape!r:.60}")
    pattern, axis = resolve(pattern, axis, len(shape))
    if bits < 1 or min(shape) < 1:
        raise ShapeError(f"not an operand: shape {list(shape)} with {bits}-bit values; all must be at least 1")
    format = stored_format(pattern, format)
    size, length = prod(shape), shape[axis]
    rows = size // length
    slots = pattern.kept(size) if pattern.kind == "unstructured" else rows * pattern.kept(length)
    if format == "dense":
        slots = size
    elif format in ("bitmask", "csr"):
        slots = _stored(pattern, slots, nonzeros)
    if format == "csr":
        _refuse_overflow(slots)
        metadata = slots * column_bits(length) + (rows + 1) * POINTER_BITS
    else:
        tiles = _tile_rows(shape, axis, pattern.v)
        metadata = rows * _row_bits(pattern, format, length) + tiles * _tile_bits(pattern, format, length)
    return Size(_whole_bytes(slots * bits), _whole_bytes(metadata))


def operand_bits(pattern: Pattern | str, format: str, length: int) -> tuple[int, float]:
    """The value slots of a row of `length` elements along the group axis, and its metadata in bits.

    What V rows of V:n:m share is divided by V, so that metadata may be a fraction. In `csr` each row counts one
    pointer. The slots of an unstructured pattern are its mean, rounded. Raises PatternError as `size_bytes`.
    """
    pattern = Pattern.parse(pattern)
    format = stored_format(pattern, format)
    if length < 1:
        raise ShapeError(f"not a row: {length} elements; a row has at least 1")
    if format == "dense":
        return length, 0
    shared = _tile_bits(pattern, format, length)
    return pattern.kept(length), _row_bits(pattern, format, length) + (shared / pattern.v if shared else 0)


def stored_format(pattern: Pattern, format: str) -> str:
    """The format a pattern is really stored in; raises PatternError where there is none."""
    if format not in FORMATS:
        raise PatternError(unknown("format", format, FORMATS))
    if pattern.kind == "unstructured" and format in ("packed", "combinatorial"):
        raise PatternError(f"{pattern} has no fixed slots to store as {format}; allowed: dense, bitmask, csr")
    return "dense" if pattern.is_dense else format


def _stored(pattern: Pattern, slots: int, nonzeros: int | None) -> int:
    stored = slots if nonzeros is None else nonzeros
    if not 0 <= stored <= slots:
        raise PatternError(f"{pattern} allows 0 to {slots} non-zeros in this shape, not {stored}")
    return stored


def _refuse_overflow(nonzeros: int) -> None:
    if nonzeros >= 1 << POINTER_BITS:
        raise ShapeError(f"{nonzeros} non-zeros overflow a row pointer of {POINTER_BITS} bits")


def _row_bits(pattern: Pattern, format: str, length: int) -> int:
    """Metadata bits that each row has for itself."""
    kept = pattern.kept(length)
    if format == "bitmask":
        return length
    if format == "csr":
        return kept * column_bits(length) + POINTER_BITS
    if format == "packed":
        return kept * slot_bits(pattern, length)
    if format == "dense":
        return 0
    if pattern.kind == "fan_in":
        return index_bits(comb(length, kept))
    if pattern.kind == "vnm":
        return _choice_bits(columns_kept(pattern, length), pattern.n, TILE_COLUMNS)
    return _choice_bits(length, pattern.n, pattern.m)


def _tile_bits(pattern: Pattern, format: str, length: int) -> int:
    """Metadata bits that a block of V rows shares."""
    if pattern.kind != "vnm" or format not in ("packed", "combinatorial"):
        return 0
    if format == "packed":
        return columns_kept(pattern, length) * index_bits(pattern.m)
    return _choice_bits(length, TILE_COLUMNS, pattern.m)


def _choice_bits(length: int, n: int, m: int) -> int:
    """Bits of one number per group that tells apart the ways to keep n of m, the tail being a group of its own."""
    groups, tail = divmod(length, m)
    return groups * index_bits(comb(m, n)) + index_bits(comb(tail, min(n, tail)))


def slot_bits(pattern: Pattern, length: int) -> int:
    """Bits that place one slot of `packed` in its group, tile or row of `length` elements."""
    if pattern.kind == "vnm":
        return _TILE_INDEX_BITS
    return index_bits(length if pattern.kind == "fan_in" else pattern.m)


def column_bits(length: int) -> int:
    """Bits of a column index of `csr`, 8, 16 or 32; raises ShapeError above 2^32 columns."""
    bits = index_bits(length)
    if bits > 32:
        raise ShapeError(f"{length} columns overflow a column index of 32 bits")
    return next(width for width in (8, 16, 32) if bits <= width)


def columns_kept(pattern: Pattern, length: int) -> int:
    """Columns of a row of `length` elements that a block of V:n:m selects: 4 of every m."""
    return Pattern.nm(TILE_COLUMNS, pattern.m).kept(length)


def _tile_rows(shape: tuple[int, ...], axis: int, v: int) -> int:
    """Blocks of v rows in an array; a block does not run on into the next plane."""
    others = shape[:axis] + shape[axis + 1 :]
    return prod(others[:-1]) * ceil(others[-1] / v) if others else 1


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)
