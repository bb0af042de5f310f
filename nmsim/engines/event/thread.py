"""A thread: the SimPy processes of a DMA in, a unit and a DMA out that take ops one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import simpy

from nmsim.engines.event.dram import Transfer
from nmsim.engines.event.spans import COMPUTE, LOAD, NEXT, STORE
from nmsim.engines.event.stream import Piece, Stream

if TYPE_CHECKING:
    from nmsim.engines.event.machine import Machine

QUEUE = 16
"""Pieces that a DMA is ahead of its unit at most, whatever the buffers hold."""


class Item(NamedTuple):
    """A piece on its way through a thread: its op, run, place in the block, whether it ends
    the block, and whether what was loaded for it may be overwritten after it."""

    piece: Piece
    op: int
    run: int
    place: int
    block_ends: bool
    frees: bool


class Thread:
    """A DMA in, a unit and a DMA out that take ops one after another."""

    def __init__(self, machine: Machine, number: int, ops: tuple[int, ...]):
        self.machine, self.ops, self.env, self.dram = machine, ops, machine.env, machine.dram
        self.number = number
        self.fetched = machine.segment.fetched if number == 0 else 0
        self.prefetch = machine.segment.prefetch if number == 0 else 0
        self.taken = 0
        self.rep = self.times = self.run = self.place = 0
        self.op = -1
        self.ahead = self.filled = self.pending = 0
        self.held = False
        self.loaded: deque[Item] = deque()
        self.computed: deque[Item] = deque()
        self.unit_item: Item | None = None
        self.unit_until = self.leads_until = 0
        self.load_start = self.unit_start = self.store_start = 0
        self.loading: Transfer | None = None
        self.storing: Transfer | None = None
        self.stored: Item | None = None
        self.load_size = 0
        self.asleep: dict[str, simpy.Event | None] = {"in": None, "unit": None, "out": None}
        self.left = {op: machine.segment.jobs[op].stream.length for op in ops}
        self.unstored = dict.fromkeys(ops, 0)
        self.events = 0
        self.reader = self.env.process(self._dma_in())
        self.unit = self.env.process(self._unit())
        self.env.process(self._dma_out())

    def _sleep(self, who: str) -> simpy.Event:
        event = self.asleep[who] = simpy.Event(self.env)
        return event

    def _wake(self, who: str) -> None:
        event = self.asleep[who]
        if event is not None:
            self.asleep[who] = None
            event.succeed()

    def _dma_in(self) -> Generator[simpy.Event, Any, None]:
        env, machine, depth = self.env, self.machine, self.machine.depth
        for op in self.ops:
            self.op, job = op, machine.segment.jobs[op]
            for before in job.after:
                if not machine.ended[before].triggered:
                    yield machine.ended[before]
            room = depth * job.stream.slices
            if job.stream.lead:
                self.events += 1
                self.leads_until = env.now + job.stream.lead
                while self.leads_until > env.now:
                    try:
                        yield simpy.Timeout(env, self.leads_until - env.now)
                    except simpy.Interrupt:  # time was skipped, and the launch is further than it thought
                        continue
                self.events += 1
            machine.marks[op].start = machine.now
            for self.run, (pieces, self.times) in enumerate(job.stream.runs):
                self.rep, last = 0, len(pieces) - 1
                while self.rep < self.times:
                    for place, piece in enumerate(pieces):
                        self.place = place
                        while self.ahead >= QUEUE or (piece.load and self.filled >= room):
                            yield self._sleep("in")
                        self.ahead += 1
                        if piece.load:
                            self.filled += 1
                            self.held = True
                        frees = self.held and self._next_loads(job.stream, pieces, place)
                        self.held = self.held and not frees
                        size = piece.load
                        if self.fetched:
                            size -= self._fetched_before(job.stream, size)
                        if size:
                            self.load_start, self.load_size = machine.now, size
                            self.events += 1
                            self.loading = self.dram.transfer(size, 2 * self.number)
                            yield self.loading
                            self.events += 1
                            self.loading = None
                            machine.spans.add(op, LOAD, self.load_start, machine.now, size)
                        self.loaded.append(Item(piece, op, self.run, place, place == last, frees))
                        self._wake("unit")
                    self.rep += 1
        yield from self._prefetch()

    def _next_loads(self, stream: Stream, pieces: tuple[Piece, ...], place: int) -> bool:
        """Whether the piece after this one loads anew, so that what this one uses may be overwritten."""
        if place + 1 < len(pieces):
            return pieces[place + 1].load > 0
        if self.rep + 1 < self.times:
            return pieces[0].load > 0
        return self.run + 1 == len(stream.runs) or stream.runs[self.run + 1].pieces[0].load > 0

    def _fetched_before(self, stream: Stream, load: int) -> int:
        """Bytes of the next load that are there already: weights, which come in the order of their use."""
        found = min(stream.weights[self.taken % len(stream.weights)], self.fetched, load)
        self.taken += 1
        self.fetched -= found
        return found

    def _prefetch(self) -> Generator[simpy.Event, Any, None]:
        """Fetch weights of the op that comes next, once half of the buffers is free of this one's."""
        machine = self.machine
        if self.prefetch:
            slices = machine.segment.jobs[self.op].stream.slices if self.ops else 0
            while self.filled > (machine.depth - 1) * slices:
                yield self._sleep("in")
            self.load_start, self.load_size = machine.now, self.prefetch
            self.events += 1
            self.loading = self.dram.transfer_idly(self.prefetch)
            yield self.loading
            self.events += 1
            self.loading, self.prefetch = None, 0
            machine.spans.add(NEXT, LOAD, self.load_start, machine.now, self.load_size)

    def still_to_fetch(self) -> int:
        """Bytes of the prefetch that have not come yet."""
        if not self.prefetch or self.loading is None:
            return self.prefetch
        self.dram.advance()
        return self.dram.bytes_left(self.loading)

    def _unit(self) -> Generator[simpy.Event, Any, None]:
        env, machine, depth, loaded = self.env, self.machine, self.machine.depth, self.loaded
        while True:
            while not loaded:
                yield self._sleep("unit")
            item = self.unit_item = loaded.popleft()
            while self.pending >= depth:
                yield self._sleep("unit")
            piece, op = item.piece, item.op
            machine.count()
            now = self.unit_start = machine.now
            marks = machine.marks[op]
            if marks.computing < 0:
                marks.computing = now
            if piece.cycles:
                self.events += 1
                self.unit_until = env.now + piece.cycles
                while self.unit_until > env.now:
                    try:
                        yield simpy.Timeout(env, self.unit_until - env.now)
                    except simpy.Interrupt:  # time was skipped, and the unit is further than it thought
                        continue
                self.events += 1
                now = machine.now
                machine.spans.add(op, COMPUTE, self.unit_start, now, 0)
            self.unit_item = None
            self.ahead -= 1
            self.filled -= item.frees
            self._wake("in")
            marks.computed = now
            self.left[op] -= 1
            if piece.store:
                self.pending += 1
                self.unstored[op] += 1
                self.computed.append(item)
                self._wake("out")
            elif not self.left[op] and not self.unstored[op]:
                machine.end(op)
            if item.block_ends and machine.steady:
                machine.steady.ask(self)

    def _dma_out(self) -> Generator[simpy.Event, Any, None]:
        machine, computed = self.machine, self.computed
        while True:
            while not computed:
                yield self._sleep("out")
            item = computed.popleft()
            self.store_start = machine.now
            self.events += 1
            self.storing, self.stored = self.dram.transfer(item.piece.store, 2 * self.number + 1), item
            yield self.storing
            self.events += 1
            self.storing = self.stored = None
            machine.spans.add(item.op, STORE, self.store_start, machine.now, item.piece.store)
            self.pending -= 1
            self._wake("unit")
            self.unstored[item.op] -= 1
            if not self.left[item.op] and not self.unstored[item.op]:
                machine.end(item.op)

    def skip(self, blocks: int, cycles: int) -> None:
        """Take so many blocks of the present run as done, and what is under way as begun so much later."""
        self.rep += blocks
        self.left[self.op] -= blocks * len(self.machine.segment.jobs[self.op].stream.runs[self.run].pieces)
        self.load_start += cycles
        self.unit_start += cycles
        self.store_start += cycles

    def under_way(self) -> list[int]:
        """What is left of the transfers of this thread, and of what its unit does, all 0 where there is none."""
        transfers = [0 if t is None else t.left for t in (self.loading, self.storing)]
        return [*transfers, *(max(until - self.env.now, 0) for until in (self.unit_until, self.leads_until))]

    def hurry(self, cycles: int, times: int, gone: list[int]) -> None:
        """Be so many cycles further: `times` times what is gone of all that is under way."""
        for transfer, less in zip((self.loading, self.storing), gone[:2], strict=True):
            if transfer is not None:
                transfer.left -= times * less
        if self.leads_until > self.env.now:
            self.leads_until -= cycles
            self.reader.interrupt()
        if self.unit_until > self.env.now:
            self.unit_until -= cycles
            self.unit.interrupt()

    def state(self) -> tuple[object, ...]:
        """All that the future of this thread depends on, times relative to now, but for how much of its run is left."""
        machine, unit = self.machine, self.unit_item
        busy = (unit.op, unit.run, unit.place, self.unit_until - self.env.now) if unit else None
        return (
            self.op, self.run, self.place, self.ahead, self.filled, self.held, self.pending, self.fetched,
            self.taken, busy,
            max(self.leads_until - self.env.now, 0),
            -1 if self.loading is None else self.loading.left, -1 if self.storing is None else self.storing.left,
            tuple(item[1:] for item in self.loaded), self.stored and (self.stored.op, self.stored.piece.store),
            0 if self.loading is None else (machine.now - self.load_start, self.load_size),
            0 if self.storing is None else machine.now - self.store_start,
            tuple((item.op, item.piece.store) for item in self.computed),
            *(event is None for event in self.asleep.values()),
        )  # fmt: skip

    def described(self) -> str:
        """What each unit of this thread does or waits for, for a person."""
        jobs = self.machine.segment.jobs
        left = sum(self.left.values())
        if not left and not any(self.unstored.values()):
            return "a thread that is done"
        op = self.op if self.op >= 0 else self.ops[0]
        stream = jobs[op].stream
        units = f"DMA in {self._dma_in_does(op)}, unit {self._unit_does()}, DMA out {self._dma_out_does()}"
        return f"{stream.unit}, op {op} of the segment: {units}; {left} pieces left"

    def _dma_in_does(self, op: int) -> str:
        ended = self.machine.ended
        if missing := [str(before) for before in self.machine.segment.jobs[op].after if not ended[before].triggered]:
            return f"waits for op {', '.join(missing)}"
        if self.asleep["in"] is not None:
            room = self.machine.depth * self.machine.segment.jobs[op].stream.slices
            return f"waits for room ({self.filled} of {room} pieces loaded)"
        return "loads" if self.loading is not None else "has nothing to load"

    def _unit_does(self) -> str:
        if self.unit_item is None:
            return "waits for a piece"
        return "waits for room for its result" if self.asleep["unit"] is not None else "computes"

    def _dma_out_does(self) -> str:
        return f"stores 1 of {self.pending} results" if self.storing is not None else "has nothing to store"
