"""The machine: for each thread of ops a DMA in, a unit and a DMA out with buffers between them, over one DRAM.

A thread takes its ops in order. Its DMA in fills `depth` buffers (2 where they are doubled), each free again when the
last piece that uses it was computed; the unit may be `depth` results ahead of its DMA out. Threads meet at DRAM, and
where an op waits for one of another thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import simpy

from nmsim.engines.event.dram import Clock, Dram
from nmsim.engines.event.spans import LOAD, NEXT, Spans
from nmsim.engines.event.steady import Skip, Steady
from nmsim.engines.event.stream import Stream
from nmsim.engines.event.thread import Thread
from nmsim.errors import NmsimError


class DeadlockError(NmsimError):
    """Units wait for each other; the message has the state of each."""


class BudgetError(NmsimError):
    """More pieces than allowed were simulated."""


class Memory(NamedTuple):
    """DRAM as transfers see it: bytes per cycle, transfers at a time (None: all), no sharing at all for `private`."""

    bytes_per_cycle: Fraction
    channels: int | None = None
    private: bool = False


class Job(NamedTuple):
    """An op of a segment: its stream, and the places of the ops that must have ended before it begins."""

    stream: Stream
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Segment:
    """Ops that run side by side: the places of `jobs` that each thread takes in order.

    Of the weights of the first op of the first thread `fetched` bytes are there already; `prefetch` bytes of those of
    the op that comes next are fetched once that thread, which may have no op at all, has nothing left to load.
    """

    jobs: tuple[Job, ...]
    threads: tuple[tuple[int, ...], ...]
    fetched: int = 0
    prefetch: int = 0


@dataclass
class Marks:
    """When an op began to load, first computed, last computed and ended, in cycles of the segment."""

    start: int = -1
    computing: int = -1
    computed: int = 0
    end: int = 0


@dataclass
class Outcome:
    """What became of a segment: cycles until all its ops had ended, marks per op, bytes of the prefetch that had come,
    spans as simulated with the stretches skipped, and the number of pieces simulated."""

    cycles: int
    marks: list[Marks]
    fetched: int
    spans: Spans
    skips: list[Skip]
    simulated: int


def execute(
    segment: Segment, memory: Memory, depth: int = 2, extrapolate: bool = True, budget: int | None = None
) -> Outcome:
    """Simulate a segment; raises DeadlockError, or BudgetError after `budget` pieces."""
    return Machine(segment, memory, depth, extrapolate, budget).run()


class Machine:
    """The units that a segment needs, and the clock they share."""

    def __init__(self, segment: Segment, memory: Memory, depth: int, extrapolate: bool, budget: int | None):
        self.env = Clock()
        self.dram = Dram(self.env, *memory)
        self.segment, self.budget, self.depth = segment, budget, depth
        self.marks = [Marks() for _ in segment.jobs]
        self.ended = [self.env.event() for _ in segment.jobs]
        self.spans = Spans()
        self.simulated = self.skipped = 0
        self.threads = [Thread(self, number, ops) for number, ops in enumerate(segment.threads)]
        self.steady = Steady(self) if extrapolate else None

    @property
    def now(self) -> int:
        """The cycle, skipped ones included."""
        return self.env.now + self.skipped

    def run(self) -> Outcome:
        """Run until every op has ended."""
        try:
            self.env.run(until=simpy.AllOf(self.env, self.ended))
        except RuntimeError:
            states = "; ".join(thread.described() for thread in self.threads)
            raise DeadlockError(f"the units wait for each other in cycle {self.now}: {states}") from None
        prefetched = self.segment.prefetch - self.threads[0].still_to_fetch()
        if self.threads[0].prefetch and prefetched:
            self.spans.add(NEXT, LOAD, self.threads[0].load_start, self.now, prefetched)
        skips = self.steady.skips if self.steady else []
        return Outcome(self.now, self.marks, prefetched, self.spans, skips, self.simulated)

    def queue(self) -> tuple[int, ...]:
        """Which transfers wait for a channel, in their order."""
        if not self.dram.waiting:
            return ()
        under_way = [t for thread in self.threads for t in (thread.loading, thread.storing)]
        return tuple(next(i for i, t in enumerate(under_way) if t is waiting) for waiting in self.dram.waiting)

    def end(self, op: int) -> None:
        """Note that an op has ended."""
        self.marks[op].end = self.now
        self.ended[op].succeed()

    def count(self) -> None:
        """Note that a piece was simulated; raises BudgetError beyond the budget."""
        self.simulated += 1
        if self.budget is not None and self.simulated > self.budget:
            raise BudgetError(f"more than {self.budget} pieces")
