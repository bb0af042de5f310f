"""The event machine: counted by hand, against the pipeline recurrence, skipping against simulating all."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.engines.event.machine import (
    BudgetError,
    DeadlockError,
    Job,
    Machine,
    Memory,
    Segment,
    execute,
)
from nmsim.engines.event.spans import COMPUTE, LOAD, NEXT, STORE
from nmsim.engines.event.stream import Piece, Run, Stream
from nmsim.engines.event.thread import QUEUE
from nmsim.engines.event.timeline import expanded
from nmsim.engines.recurrence import ends, makespan

ONE = Memory(Fraction(1))
PRIVATE = Memory(Fraction(1), private=True)


def one(*pieces: tuple[int, int, int], times: int = 1) -> Segment:
    """A segment of one op, given as (load, cycles, store)."""
    return Segment((Job(Stream("array", (Run(tuple(Piece(*p, 0) for p in pieces), times),))),), ((0,),))


def spans(segment: Segment, memory: Memory, **options: bool) -> list[tuple[int, int, int]]:
    """(phase, start, end) of every span."""
    return [(s.phase, s.start, s.end) for s in execute(segment, memory, **options).spans]


def test_three_pieces_by_hand():
    """As in the docstring of the recurrence: 3, 5, 2 cycles, two places: loads end at 3, 6, 11."""
    found = spans(one((3, 5, 2), times=3), PRIVATE, extrapolate=False)
    assert [s for s in found if s[0] == LOAD] == [(LOAD, 0, 3), (LOAD, 3, 6), (LOAD, 8, 11)]
    assert [s for s in found if s[0] == COMPUTE] == [(COMPUTE, 3, 8), (COMPUTE, 8, 13), (COMPUTE, 13, 18)]
    assert [s for s in found if s[0] == STORE] == [(STORE, 8, 10), (STORE, 13, 15), (STORE, 18, 20)]
    assert ends(np.array([[3] * 3, [5] * 3, [2] * 3]), [2, 2]).tolist() == [[3, 6, 11], [8, 13, 18], [10, 15, 20]]


def test_a_load_and_a_store_divide_the_bandwidth():
    """4 bytes in, 1 cycle, 4 bytes out at 1 byte a cycle. From cycle 5 the store of piece 0 and what is left of the
    load of piece 1 (3 of 4 bytes) have half each: the load ends at 11, the store, with 1 byte left, alone at 12."""
    found = spans(one((4, 1, 4), times=2), ONE, extrapolate=False)
    assert (LOAD, 4, 11) in found
    assert (STORE, 5, 12) in found
    assert found[-1] == (STORE, 12, 16)


def test_one_channel_serves_transfers_one_after_another():
    """The same with one channel: the load of piece 1 keeps DRAM until 8, then the stores follow."""
    found = spans(one((4, 1, 4), times=2), Memory(Fraction(1), channels=1), extrapolate=False)
    assert (LOAD, 4, 8) in found
    assert (STORE, 5, 12) in found
    assert found[-1] == (STORE, 12, 16)


def test_single_buffers_take_turns():
    """Without a second buffer a load waits for the piece before: (2 + 3) cycles each."""
    assert execute(one((2, 3, 0), times=10), PRIVATE, depth=1).cycles == 50


def test_weights_are_fetched_while_the_op_before_ends():
    """Two pieces of 2 bytes and 5 cycles: all is loaded at 4, half of the buffers free when piece 0 is computed at 7.
    Of the 6 bytes for the next op 5 have come when piece 1 ends at 12."""
    job = one((2, 5, 0), times=2).jobs[0]
    outcome = execute(Segment((job,), ((0,),), prefetch=6), ONE)
    assert (outcome.cycles, outcome.fetched) == (12, 5)
    assert (NEXT, LOAD, 7, 12, 5) in list(outcome.spans)


def test_fetched_weights_are_not_loaded_again():
    """Pieces that load 8 bytes, 3 of them weights, and compute for 1 cycle. With 5 bytes of weights at hand the loads
    take 8 - 3, 8 - 2 and 8 cycles."""
    stream = Stream("array", (Run((Piece(8, 1, 0, 0),), 3),), weights=(3,), ready=9)
    segment = Segment((Job(stream),), ((0,),))
    assert execute(segment, ONE).cycles == 3 * 8 + 1
    outcome = execute(replace(segment, fetched=5), ONE)
    assert [(s.start, s.end, s.size) for s in outcome.spans if s.phase == LOAD] == [(0, 5, 5), (5, 11, 6), (11, 19, 8)]


def test_weights_are_fetched_when_nothing_else_is_moved():
    """A thread without ops fetches 10 bytes beside one that loads 4, computes 6, stores 4, twice over: its own loads
    and stores leave DRAM free in cycles 8 to 10 only, and in 14 to 16."""
    segment = Segment(one((4, 6, 4), times=2).jobs, ((), (0,)), prefetch=10)
    alone, beside = execute(replace(segment, prefetch=0), ONE), execute(segment, ONE)
    assert alone.cycles == beside.cycles == 20
    assert beside.fetched == 20 - 2 * 8


def test_ops_wait_for_what_they_need():
    """Two threads: the second op begins to load when the first has ended, at 10."""
    first, second = (one((4, 4, 2)).jobs[0].stream for _ in range(2))
    outcome = execute(Segment((Job(first), Job(second, after=(0,))), ((0,), (1,))), ONE)
    assert [m.start for m in outcome.marks] == [0, 10]
    assert outcome.cycles == 20


def test_deadlock_is_reported_with_the_state_of_every_unit():
    """Two ops that wait for each other, the second behind one that ends."""
    stream = one((1, 1, 1)).jobs[0].stream
    jobs = (Job(stream, (2,)), Job(stream), Job(stream, (0,)))
    with pytest.raises(DeadlockError) as found:
        execute(Segment(jobs, ((0,), (1, 2))), ONE)
    waits = "DMA in waits for op {}, unit waits for a piece, DMA out has nothing to store; 1 pieces left"
    assert str(found.value) == (
        "the units wait for each other in cycle 3: "
        f"array, op 0 of the segment: {waits.format(2)}; array, op 2 of the segment: {waits.format(0)}"
    )


def test_buffers_that_hold_nothing_are_a_deadlock():
    """No room for a piece, nor for a result."""
    with pytest.raises(DeadlockError, match=r"cycle 0: array.*DMA in waits for room \(0 of 0 pieces loaded\)"):
        execute(one((3, 5, 2), times=9), ONE, depth=0)
    with pytest.raises(DeadlockError, match=r"DMA in has nothing to load, unit waits for room for its result"):
        execute(one((0, 5, 2)), ONE, depth=0)


def test_the_budget_ends_a_simulation():
    with pytest.raises(BudgetError):
        execute(one((1, 1, 1), times=100), ONE, extrapolate=False, budget=99)
    assert execute(one((1, 1, 1), times=100), ONE, extrapolate=False, budget=100).simulated == 100


times = st.integers(0, 12)
pieces = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


@given(st.lists(pieces, min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_linear_pipelines_agree_with_the_recurrence(found: list[tuple[int, int, int]], depth: int, slices: int):
    """To the cycle, piece by piece, with as many places before the unit as fit and no more than QUEUE."""
    stream = Stream("array", (Run(tuple(Piece(*p, 0) for p in found), 1),), slices=slices)
    outcome = execute(Segment((Job(stream),), ((0,),)), PRIVATE, depth=depth)
    places = [min(depth * slices, QUEUE), depth]
    end = ends(np.array(found).T, places)
    assert outcome.cycles == makespan(np.array(found).T, places) == end[2, -1]
    for phase in (LOAD, COMPUTE, STORE):
        assert [s.end for s in outcome.spans if s.phase == phase] == end[phase].tolist()


blocks = st.lists(st.tuples(times, times, times).map(lambda p: Piece(*p, 0)), min_size=1, max_size=3).map(tuple)
runs = st.lists(st.builds(Run, blocks, st.integers(1, 30)), min_size=1, max_size=2).map(tuple)
ops = st.builds(
    Stream, st.just("array"), runs, st.integers(0, 9), st.just((2, 0, 7)), st.just(99), st.sampled_from([1, 1, 2, 5])
)
memories = st.builds(
    Memory,
    st.sampled_from([Fraction(1), Fraction(5, 3), Fraction(1, 2), Fraction(7)]),
    st.sampled_from([None, 1, 2, 3]),
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """One to three threads of one or two ops; an op may wait for one of an earlier thread."""
    jobs: list[Job] = []
    threads: list[tuple[int, ...]] = []
    for _ in range(draw(st.integers(1, 3))):
        earlier = list(range(len(jobs)))
        thread = []
        for _ in range(draw(st.integers(1, 2))):
            after = tuple(draw(st.lists(st.sampled_from(earlier), max_size=1))) if earlier else ()
            thread.append(len(jobs))
            jobs.append(Job(draw(ops), after))
        threads.append(tuple(thread))
    if draw(st.booleans()):
        threads.insert(0, ())
    return Segment(tuple(jobs), tuple(threads), draw(st.integers(0, 40)), draw(st.integers(0, 60)))


@given(segments(), memories, st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_skipping_what_repeats_changes_nothing(segment: Segment, memory: Memory, depth: int):
    """The same end, the same marks of each op and the same spans as in the full simulation."""
    full = execute(segment, memory, depth, extrapolate=False)
    fast = execute(segment, memory, depth)
    assert (fast.cycles, fast.fetched, fast.marks) == (full.cycles, full.fetched, full.marks)
    assert fast.simulated <= full.simulated
    assert sorted(expanded(fast)) == sorted(full.spans)


def test_long_runs_are_skipped():
    """A million pieces cost no more than a hundred."""
    few, many = (execute(one((3, 5, 2), times=t), ONE) for t in (100, 10**6))
    assert few.simulated == many.simulated < 30
    assert many.cycles - few.cycles == (10**6 - 100) * 5


def test_the_same_bits_every_time():
    segment = Segment((*one((3, 5, 2), (1, 9, 4), times=9).jobs, *one((6, 2, 7), times=7).jobs), ((0,), (1,)))
    assert Machine(segment, ONE, 2, True, None).run() == Machine(segment, ONE, 2, True, None).run()
