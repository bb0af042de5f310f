"""Periodic steady state: once a thread is in a state that it was in before, it repeats what it did since.

All delays are whole numbers and nothing is drawn by chance. What follows is determined by the state of each thread
(what each of its units holds, and how long it still takes), and one thread feels another only through the number of
transfers that share DRAM. So where a thread's state recurs after t cycles and r equal blocks, and no unit of another
thread began or ended anything in between, it recurs again until its run of blocks or something of another thread
ends: q times r blocks are left out, q t cycles are added, and what the others have under way is q t cycles further.
The end is the same to the cycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import simpy

if TYPE_CHECKING:
    from nmsim.engines.event.machine import Machine, Thread

REMEMBERED = 512
"""States of a thread kept to compare with; a period of more blocks than that is simulated in full."""


LATE = 2
"""A priority after all that SimPy gives by itself."""


class CycleEnd(simpy.Event):
    """Happens when everything else of the present cycle has."""

    callbacks: list[Any]

    def __init__(self, env: simpy.Environment):
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority=LATE)  # type: ignore[arg-type]


class Skip(NamedTuple):
    """Spans [first, last) as simulated, repeated `times` more, each time `cycles` later."""

    first: int
    last: int
    times: int
    cycles: int


class Seen(NamedTuple):
    """A state that was met: the cycle, the blocks begun, the spans recorded, and what is left of each thing that the
    other threads have under way."""

    cycle: int
    blocks: int
    spans: int
    others: list[int]


class Steady:
    """Finds recurring states at the ends of cycles in which blocks end, and leaves out what would only repeat.

    At the end of a cycle all that happens in it has happened: a state then holds nothing that is about to change.
    """

    def __init__(self, machine: Machine):
        self.machine = machine
        self.seen: dict[Thread, dict[object, Seen]] = {thread: {} for thread in machine.threads}
        self.quiet: dict[Thread, int] = dict.fromkeys(machine.threads, -1)
        self.skips: list[Skip] = []
        self.asking: dict[Thread, None] = {}

    def ask(self, thread: Thread) -> None:
        """Compare the state of a thread that ended a block with those met before, when this cycle is over."""
        if thread.rep + 2 < thread.times:
            if not self.asking:
                CycleEnd(self.machine.env).callbacks.append(self._look_at_all)
            self.asking[thread] = None

    def _look_at_all(self, _: Any) -> None:
        asking, self.asking = self.asking, {}
        for thread in asking:
            self._look(thread)

    def _look(self, thread: Thread) -> None:
        if thread.rep + 2 >= thread.times:
            return
        machine, seen = self.machine, self.seen[thread]
        others = [other for other in machine.threads if other is not thread]
        events = sum(other.events for other in others)
        if events != self.quiet[thread] or len(seen) >= REMEMBERED:
            seen.clear()
            self.quiet[thread] = events
        machine.dram.advance()
        now = Seen(machine.env.now, thread.rep, len(machine.spans), [x for other in others for x in other.under_way()])
        key = thread.state(), machine.queue()
        before = seen.setdefault(key, now)
        if before is not now:
            seen.clear()
            self._skip(thread, others, before, now)

    def _skip(self, thread: Thread, others: list[Thread], before: Seen, now: Seen) -> None:
        step, period = now.blocks - before.blocks, now.cycle - before.cycle
        gone = [a - b for a, b in zip(before.others, now.others, strict=True)]
        if step <= 0 or period <= 0 or min(gone, default=0) < 0:
            return
        room = [(left - 1) // less for left, less in zip(now.others, gone, strict=True) if less > 0]
        times = min([(thread.times - 2 - thread.rep) // step, *room])  # the last block may free its buffers otherwise
        if times < 1:
            return
        thread.skip(times * step, times * period)
        for other in others:
            other.hurry(times * period, times, [gone.pop(0) for _ in other.under_way()])
        for states in self.seen.values():
            states.clear()
        self.skips.append(Skip(before.spans, now.spans, times, period))
        self.machine.skipped += times * period
        self.machine.dram.rearm()
