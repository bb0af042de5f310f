"""The event machine: counted by hand, against the pipeline recurrence, skipping against simulating all."""

from __future__ import annotations

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
from nmsim.engines.event.spans import COMPUTE, LOAD, STORE
from nmsim.engines.event.stream import Piece, Run, Stream
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
    """The array computes until 12, its DMA has loaded all at 4: the 6 bytes for the next op come meanwhile, and its
    first load of 8 then takes 2 cycles."""
    job = one((2, 5, 0), times=2).jobs[0]
    outcome = execute(Segment((job,), ((0,),), prefetch=6), ONE)
    assert (outcome.cycles, outcome.fetched) == (12, 5)
    assert execute(one((8, 1, 0)), ONE).cycles == 9
    assert execute(Segment(one((8, 1, 0)).jobs, ((0,),), fetched=6), ONE).cycles == 3


def test_ops_wait_for_what_they_need():
    """Two threads: the second op begins to load when the first has ended, at 10."""
    first, second = (one((4, 4, 2)).jobs[0].stream for _ in range(2))
    outcome = execute(Segment((Job(first), Job(second, after=(0,))), ((0,), (1,))), ONE)
    assert [m.start for m in outcome.marks] == [0, 10]
    assert outcome.cycles == 20


def test_deadlock_is_reported_with_the_state_of_every_unit():
    """Two ops that wait for each other."""
    stream = one((1, 1, 1)).jobs[0].stream
    with pytest.raises(DeadlockError, match=r"wait for each other in cycle 0: array: .*; array: .*pieces left"):
        execute(Segment((Job(stream, (1,)), Job(stream, (0,))), ((0,), (1,))), ONE)


def test_the_budget_ends_a_simulation():
    with pytest.raises(BudgetError):
        execute(one((1, 1, 1), times=100), ONE, extrapolate=False, budget=99)
    assert execute(one((1, 1, 1), times=100), ONE, extrapolate=False, budget=100).simulated == 100


times = st.integers(0, 12)
pieces = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


@given(st.lists(pieces, min_size=1, max_size=30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_linear_pipelines_agree_with_the_recurrence(found: list[tuple[int, int, int]], depth: int):
    """To the cycle, piece by piece."""
    outcome = execute(one(*found), PRIVATE, depth=depth)
    end = ends(np.array(found).T, [depth, depth])
    assert outcome.cycles == makespan(np.array(found).T, [depth, depth]) == end[2, -1]
    assert [s.end for s in outcome.spans if s.phase == COMPUTE] == end[1].tolist()
    assert [s.end for s in outcome.spans if s.phase == STORE] == end[2].tolist()


blocks = st.lists(st.tuples(times, times, times).map(lambda p: Piece(*p, 0)), min_size=1, max_size=3).map(tuple)
runs = st.lists(st.builds(Run, blocks, st.integers(1, 30)), min_size=1, max_size=2).map(tuple)
ops = st.builds(Stream, st.just("array"), runs, st.integers(0, 9))
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
    return Segment(tuple(jobs), tuple(threads), prefetch=draw(st.integers(0, 20)))


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
