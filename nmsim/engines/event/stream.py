"""Streams: the work of an op as runs of equal blocks of pieces, each loaded, computed and stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Piece(NamedTuple):
    """A tile, or a slice of one that is loaded at a time: bytes in, cycles of its unit, bytes out, and its
    multiply-accumulates (elements, for other work)."""

    load: int
    cycles: int
    store: int
    work: int


class Run(NamedTuple):
    """A block of pieces that is executed `times` times over."""

    pieces: tuple[Piece, ...]
    times: int


@dataclass(frozen=True)
class Stream:
    """An op as its unit sees it.

    `lead` cycles pass before the first load (launch). Of what its first pieces load, `weights` bytes in turn, `ready`
    bytes in all depend on no op before and may be fetched ahead. `slices` pieces fit into each half of the buffers.
    """

    unit: str
    runs: tuple[Run, ...]
    lead: int = 0
    weights: tuple[int, ...] = ()
    ready: int = 0
    slices: int = 1

    def pieces(self) -> Iterator[Piece]:
        """Every piece, in order."""
        for run in self.runs:
            for _ in range(run.times):
                yield from run.pieces

    def total(self, field: str) -> int:
        """Sum of a field over all pieces."""
        return sum(run.times * sum(getattr(piece, field) for piece in run.pieces) for run in self.runs)

    @property
    def length(self) -> int:
        """Number of pieces."""
        return sum(run.times * len(run.pieces) for run in self.runs)


def shared(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers, all equal but for the last, which takes the rest."""
    each = total // parts
    return [each] * (parts - 1) + [total - each * (parts - 1)]


def even(total: Piece, parts: int) -> tuple[Run, ...]:
    """A piece cut into `parts` alike; the last takes what the division leaves."""
    columns = [shared(value, parts) for value in total]
    first, last = (Piece(*(column[i] for column in columns)) for i in (0, -1))
    return (Run((first,), parts - 1), Run((last,), 1)) if parts > 1 else (Run((last,), 1),)


FEW = 3
"""Times that a block is executed up to which it is looked into for pieces that are alike."""


def merged(runs: list[Run]) -> tuple[Run, ...]:
    """Neighbouring runs of the same block joined, empty ones left out, blocks of equal pieces opened."""
    return tuple(_joined(opened for run in _joined(runs) for opened in _opened(run)))


def _joined(runs: Iterable[Run]) -> list[Run]:
    found: list[Run] = []
    for run in runs:
        if found and found[-1].pieces == run.pieces:
            found[-1] = Run(run.pieces, found[-1].times + run.times)
        elif run.times:
            found.append(run)
    return found


def _opened(run: Run) -> list[Run]:
    """A block that is executed a few times only as runs of its equal pieces, where that makes less to look at."""
    if run.times > FEW or len(run.pieces) == 1:
        return [run]
    single = _joined(Run((piece,), 1) for piece in run.pieces)
    return single * run.times if 4 * len(single) <= len(run.pieces) else [run]
