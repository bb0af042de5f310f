"""Mask decay: betas and updates by hand, the first step without a rest by counting, gradients against differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.sparsity.decay import (
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    aqt_mask_decay,
    decay_gradient,
    soft_weight,
    update_at,
)

COMMON = {
    "start": st.integers(0, 20),
    "every": st.integers(1, 7),
}
decays = st.one_of(
    st.builds(LinearDecay, st.floats(0.02, 2), **COMMON),
    st.builds(ExponentialDecay, st.floats(0.05, 2), snap=st.floats(1e-4, 0.5), **COMMON),
    st.builds(CosineDecay, st.integers(1, 60), **COMMON),
    st.builds(LinearDecay, st.floats(0.02, 2), start=COMMON["start"], end=st.integers(20, 60)),
)


def test_betas_by_hand():
    """Linear 1/4; e^-t is below 1e-3 first at t = 7 (e^-6.9 = 1e-3); half a cosine over 4 passes 1/2 at 2."""
    assert [LinearDecay(0.25, start=2).beta(t) for t in range(8)] == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    exponential = ExponentialDecay(1.0)
    assert [exponential.beta(t) for t in range(7)] == pytest.approx([np.exp(-t) for t in range(7)], rel=1e-15)
    assert exponential.beta(7) == 0
    assert exponential.first_sparse_step == 7
    cosine = [CosineDecay(4).beta(t) for t in range(6)]
    assert cosine == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0, 0], abs=1e-15)
    assert cosine[4] == 0


def test_beta_changes_at_updates_only():
    """Every 3 steps from step 1: an update at 4 and one at 7."""
    decay = LinearDecay(0.5, start=1, every=3)
    assert [decay.beta(t) for t in range(9)] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0, 0]
    assert decay.first_sparse_step == 7


@settings(deadline=None, max_examples=150)
@given(decays)
def test_the_first_sparse_step_is_the_first_without_a_rest(decay):
    first = decay.first_sparse_step
    assert first is not None
    betas = [decay.beta(t) for t in range(first + 20)]
    assert all(0 < beta <= 1 for beta in betas[:first])
    assert not any(betas[first:])
    assert sorted(betas, reverse=True) == betas
    assert set(betas[: decay.start]) <= {1.0}


@given(st.integers(1, 10_000))
def test_a_linear_rate_of_one_over_the_steps_ends_exactly_there(steps):
    """1 - 49 · (1/49) is not 0 in floating point; what is left below 1e-9 is dropped."""
    assert LinearDecay(1 / steps).first_sparse_step == steps


def test_the_published_exponential_never_ends_without_an_end():
    """Snap 0 leaves e^-745, the least double; an end gives it a step."""
    assert ExponentialDecay(1.0, snap=0.0).first_sparse_step == 746
    assert ExponentialDecay(1.0, snap=0.0).beta(745) > 0
    bounded = ExponentialDecay(1.0, snap=0.0, end=12)
    assert (bounded.beta(11) > 0, bounded.beta(12), bounded.first_sparse_step) == (True, 0.0, 12)


def test_slow_decays_are_found_at_once():
    """MdGf-Exponential's 1e-4: ln(1000) / 1e-4 = 69,077.55, so step 69,078."""
    assert ExponentialDecay(1e-4).first_sparse_step == 69_078
    assert LinearDecay(1e-12).first_sparse_step == pytest.approx(1e12, rel=1e-8)


def test_published_caps():
    """0.05 · 16 leaves 0.2, forced to 0 at update 16 in 2022; a cap of 8 leaves 0.6 for ever; 0.25 is 0 at update 4."""
    assert LinearDecay(0.05, every=10).first_sparse_step == 200
    assert aqt_mask_decay(0.05, every=10).first_sparse_step == 160
    capped = aqt_mask_decay(0.05, every=10, release="aqt_head")
    assert capped.first_sparse_step is None
    assert capped.beta(10**9) == pytest.approx(0.6)
    assert aqt_mask_decay(0.25, 100, 10, "aqt_head").first_sparse_step == 140


def test_updates():
    """Start 5, every 2: applied from 5, searched at 5, 7, 9 ..., counted from 7; every 0 searches once."""
    assert [update_at(t, 5, 2) for t in (4, 5, 6, 7)] == [
        (False, False, 0), (True, True, 0), (True, False, 0), (True, True, 1),
    ]  # fmt: skip
    assert [update_at(t, 5, 0) for t in (4, 5, 6, 900)] == [
        (False, False, 0), (True, True, 0), (True, False, 0), (True, False, 0),
    ]  # fmt: skip
    assert update_at(1000, 0, 10).updates == 100
    assert update_at(1000, 0, 10, "aqt_2022").updates == 16
    assert update_at(1000, 0, 10, "aqt_head").updates == 8


def test_masks_that_are_never_applied_are_not_counted():
    """google/aqt writes never as start -1 and counts from there, though it applies nothing."""
    assert update_at(59, None, 10) == (False, False, 0)
    assert update_at(59, None, 10, "aqt_head") == (False, False, 6)


def test_soft_weight_by_hand():
    weight, mask = np.array([4.0, -2.0], np.float32), [1, 0]
    assert soft_weight(weight, mask, 0.25).tolist() == [4, -0.5]
    assert soft_weight(weight, mask, np.float64(0.25)).dtype == np.float32
    dropped = soft_weight([1.0, -np.inf], mask, 0.0)
    assert dropped.tolist() == [1, 0]
    assert not np.signbit(dropped[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_gradients(seed, beta):
    """Autodiff is the derivative of the forward weight; straight-through does not see the mask."""
    rng = np.random.default_rng(seed)
    weight, upstream = rng.standard_normal((2, 12))
    mask = rng.random(12) < 0.5
    eps = 1e-4
    steps = eps * np.eye(12)
    loss = [[np.sum(upstream * soft_weight(weight + s * step, mask, beta)) for step in steps] for s in (1, -1)]
    numeric = (np.array(loss[0]) - loss[1]) / (2 * eps)
    np.testing.assert_allclose(decay_gradient(upstream, mask, beta, "autodiff"), numeric, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(decay_gradient(upstream, mask, beta), upstream)


def test_mistakes_are_refused():
    for rate in (0.0, -1.0, 1e-16, float("nan"), float("inf")):
        for kind in (LinearDecay, ExponentialDecay):
            with pytest.raises(UnsupportedError, match="rate of a decay"):
                kind(rate)
    for wrong in ({"every": 0}, {"snap": 1.0}, {"start": 5, "end": 4}, {"snap": float("nan")}):
        with pytest.raises(UnsupportedError, match="a decay needs"):
            CosineDecay(3, **wrong)
    with pytest.raises(UnsupportedError, match="at least 1 update, not 0"):
        CosineDecay(0)
    with pytest.raises(UnsupportedError, match="start -1"):
        LinearDecay(0.1, start=-1)
    with pytest.raises(UnsupportedError, match="did you mean aqt_head"):
        update_at(0, 0, 1, "aqt_haed")
    with pytest.raises(UnsupportedError, match=r"beta lies in \[0, 1\], not 1\.5"):
        soft_weight([1.0], [1], 1.5)
    with pytest.raises(UnsupportedError, match="allowed: autodiff, ste"):
        decay_gradient([1.0], [1], 0.5, "straight")
    with pytest.raises(ShapeError, match="shapes differ"):
        soft_weight(np.ones(3), np.ones(4), 0.5)
