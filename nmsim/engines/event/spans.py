"""Spans: what was recorded of each phase of each piece, as plain numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

LOAD, COMPUTE, STORE = range(3)
PHASES = ("load", "compute", "store")
NEXT = -1
"""The op of a span that fetches weights for the product which comes after the segment."""


class Span(NamedTuple):
    """A phase of a piece: op (its place in the segment, or NEXT), LOAD, COMPUTE or STORE, start and end cycle, bytes
    moved."""

    op: int
    phase: int
    start: int
    end: int
    size: int


WIDTH = len(Span._fields)


@dataclass
class Spans:
    """Spans in the order of their ends. They are kept as one array: as objects, Python's garbage collector would walk
    through all of them time and again, which takes a third of a simulation."""

    numbers: array[int] = field(default_factory=lambda: array("q"))

    def add(self, op: int, phase: int, start: int, end: int, size: int) -> None:
        """Append a span, as in Span."""
        self.numbers.extend((op, phase, start, end, size))

    def __len__(self) -> int:
        return len(self.numbers) // WIDTH

    def __iter__(self) -> Iterator[Span]:
        return iter(self.between(0, len(self)))

    def between(self, first: int, last: int) -> list[Span]:
        """The spans from the first up to before the last."""
        columns = (self.numbers[first * WIDTH + i : last * WIDTH : WIDTH] for i in range(WIDTH))
        return [Span(*row) for row in zip(*columns, strict=True)]
