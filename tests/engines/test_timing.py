"""Waterfalls: causes sum to the cycles, and what only keeps the cycles keeps the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nmsim.engines.timing import Bound, Waterfall

CYCLES = st.floats(0, 1e9)
STEPS = st.lists(st.tuples(st.sampled_from(["at_least", "plus", "resource"]), CYCLES, CYCLES), max_size=8)


@given(useful=CYCLES, steps=STEPS)
def test_a_bound_has_the_cycles_of_the_waterfall_to_the_last_bit(useful, steps):
    """In any order of bounds, additions and resources (with indices)."""
    whole, bare = Waterfall(np.array([useful])), Bound(np.array([useful]))
    for number, (what, cycles, indices) in enumerate(steps):
        for fall in (whole, bare):
            more = (np.array([indices]),) if what == "resource" else ()
            getattr(fall, what)(f"cause {number}", np.array([cycles]), *more)
    assert bare.cycles == whole.cycles
    np.testing.assert_allclose(sum(whole.causes.values()), whole.cycles, rtol=1e-12)
    assert list(bare.causes) == ["useful"]
