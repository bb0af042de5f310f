"""DRAM: transfers in flight divide its bandwidth evenly; whole cycles, whole numbers, the same bits every time."""

from __future__ import annotations

from bisect import insort
from fractions import Fraction
from math import lcm

import simpy

STREAMS = 8
"""Transfers that can be in flight: two of each of up to four threads."""
SCALE = lcm(*range(1, STREAMS + 1))


class Clock(simpy.Environment):
    """An environment whose time is a whole number of cycles."""

    _now: int

    @property
    def now(self) -> int:
        """The present cycle."""
        return self._now


class Transfer(simpy.Event):
    """A transfer of which `left` units of work are to be done; it succeeds when there are none.

    `turn` is the cycle in which it was asked for and, among those of one cycle, its rank; `began` the cycle in which
    it got a channel.
    """

    left: int
    turn: tuple[int, int]
    began: int

    def end(self) -> None:
        """Succeed within the alarm that ends it: a transfer takes no event of its own."""
        self._ok, self._value = True, None
        waiting, self.callbacks = self.callbacks, None  # type: ignore[assignment]
        for resume in waiting:
            resume(self)


def _turn(transfer: Transfer) -> tuple[int, int]:
    return transfer.turn


class Dram:
    """Off-chip memory of `bytes_per_cycle`, shared fluidly by at most `channels` transfers; others wait their turn.

    Work is counted in units of 1/(q SCALE) bytes for a bandwidth of p/q bytes per cycle, so that the share of each of
    up to STREAMS transfers is a whole number of units per cycle. A transfer ends with the cycle in which its last
    byte moves. Channels are given by turn, so that the order of what happens within a cycle decides nothing. With
    `private` each stream has the bandwidth to itself, as in a linear pipeline.
    """

    def __init__(self, env: Clock, bytes_per_cycle: Fraction, channels: int | None = None, private: bool = False):
        self.env = env
        self.unit = bytes_per_cycle.denominator * SCALE
        self.rate = bytes_per_cycle.numerator * SCALE
        self.channels = min(channels or STREAMS, STREAMS)
        self.private = private
        self.active: list[Transfer] = []
        self.idle: Transfer | None = None
        self.waiting: list[Transfer] = []
        self.since = 0
        self.alarm: simpy.Timeout | None = None
        self.alarm_at = 0

    def transfer(self, size: int, rank: int) -> Transfer:
        """Start moving `size` bytes; of those asked for in one cycle, the lowest ranks get channels first."""
        moved, now = Transfer(self.env), self.env.now
        moved.left, moved.turn = size * self.unit, (now, rank)
        if now > self.since:
            self.advance()
        if self.waiting or len(self.active) >= self.channels:
            insort(self.waiting, moved, key=_turn)
            self._admit()
        else:
            moved.began = now
            self.active.append(moved)
        self.rearm()
        return moved

    def transfer_idly(self, size: int) -> Transfer:
        """Move `size` bytes while nothing else is moved; one such transfer at a time."""
        moved = Transfer(self.env)
        self.advance()
        moved.left, self.idle = size * self.unit, moved
        self.rearm()
        return moved

    def _admit(self) -> None:
        """Give free channels to those whose turn it is, and those that nothing has moved on yet to an earlier turn."""
        while self.waiting:
            if len(self.active) >= self.channels:
                last = max(self.active, key=lambda t: (t.began, t.turn))
                if last.began < self.env.now or last.turn < self.waiting[0].turn:
                    return
                self.active.remove(last)
                insort(self.waiting, last, key=_turn)
            first = self.waiting.pop(0)
            first.began = self.env.now
            self.active.append(first)

    def advance(self) -> None:
        """Bring the work left of each transfer up to now."""
        now, active = self.env.now, self.active
        if now > self.since:
            if active:
                served = (now - self.since) * self.share()
                for transfer in active:
                    transfer.left -= served
            elif self.idle is not None:
                self.idle.left -= (now - self.since) * self.rate
            self.since = now

    def share(self) -> int:
        """Units of work per cycle that each transfer in flight gets."""
        return self.rate if self.private else self.rate // (len(self.active) or 1)

    def bytes_left(self, transfer: Transfer) -> int:
        """Bytes of a transfer still to move, rounded up."""
        return -(-max(transfer.left, 0) // self.unit)

    def rearm(self) -> None:
        """Wake up when the next transfer can have ended; an earlier alarm that stands is kept and set anew then."""
        moving = self.active or ([] if self.idle is None else [self.idle])
        if not moving:
            return
        least = moving[0].left
        for transfer in moving:
            if transfer.left < least:
                least = transfer.left
        wait = -(-least // self.share()) if least > 0 else 0
        at = self.since + wait
        if self.alarm is None or at < self.alarm_at:
            self.alarm, self.alarm_at = simpy.Timeout(self.env, wait), at
            self.alarm.callbacks.append(self._on_alarm)

    def _on_alarm(self, alarm: simpy.Event) -> None:
        if alarm is not self.alarm:
            return
        self.alarm = None
        self.advance()
        ended = [t for t in self.active if t.left <= 0]
        if ended:
            self.active = [t for t in self.active if t.left > 0]
            if self.waiting:
                self._admit()
            for transfer in ended:
                transfer.end()
        if (idle := self.idle) is not None and idle.left <= 0:
            self.idle = None
            idle.end()
        self.rearm()
