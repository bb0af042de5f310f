"""One-shot pruning: cases counted by hand, SparseGPT against least squares solved anew at every input, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import NmsimError, PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.oneshot import METHODS, InputStatistics, one_shot, sparsegpt, wanda_scores


def inputs_like(rng, tokens, inputs):
    """Correlated inputs, as those of a network are."""
    return rng.standard_normal((tokens, inputs)) @ rng.standard_normal((inputs, inputs))


def statistics_of(x, hessian=True):
    statistics = InputStatistics(x.shape[-1], hessian)
    statistics.add(x)
    return statistics


def half_trace(change, hessian):
    return np.einsum("io,ij,jo->", change, hessian, change) / 2


def oracle(weight, n, groups, h):
    """SparseGPT of one output by its definition: at every input, the rest is the least-squares fit to what is fixed."""
    change, kept = np.zeros(len(weight)), np.zeros(len(weight), bool)

    def fitted(i):
        return weight[i:] - np.linalg.solve(h[i:, i:], h[i:, :i] @ change[:i])

    for group in groups:
        i = group[0]
        costs = [fitted(i)[j - i] ** 2 / np.linalg.inv(h[j:, j:])[0, 0] for j in group]
        kept[sorted(group, key=lambda j: -costs[j - i])[:n]] = True
        for j in group:
            change[j] = fitted(j)[0] - weight[j] if kept[j] else -weight[j]
    return weight + change, kept


def groups_of(taps, length, m):
    return [
        list(range(tap * length + i, tap * length + min(i + m, length)))
        for tap in range(taps)
        for i in range(0, length, m)
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([(1,), (2, 3)]), st.integers(2, 9), st.integers(2, 5), st.integers(1, 40))
def test_sparsegpt_is_the_least_squares_fit_at_every_input(seed, positions, length, m, block):
    """Also a tail of a group, kernel positions that groups do not span, and blocks of any size."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, m))
    w = rng.standard_normal((*positions[1:], length, 3))
    flat = w.reshape(-1, 3)
    h = statistics_of(inputs_like(rng, 200, len(flat))).hessian
    damped = h + 0.01 * h.diagonal().mean() * np.eye(len(h))
    found = sparsegpt(w, f"{n}:{m}", h, block=block)
    assert satisfies(found.mask, f"{n}:{m}", -2)
    groups = groups_of(len(flat) // length, length, m)
    for o in range(3):
        expected, kept = oracle(flat[:, o], n, groups, damped)
        np.testing.assert_array_equal(found.mask[..., o].ravel(), kept)
        np.testing.assert_allclose(found.weight[..., o].ravel() * kept, expected * kept, rtol=1e-6, atol=1e-6)
    assert not found.weight[~found.mask].any()
    change = found.weight.reshape(flat.shape) - flat
    np.testing.assert_allclose(found.loss, half_trace(change, damped), rtol=1e-6)


def test_two_inputs_by_hand():
    """H = (2 1; 1 2), so H^-1 = (2 -1; -1 2)/3, U_00^2 = 2/3, U_01 U_00 = -1/3, U_11^2 = 2/3 - 1/6 = 1/2.

    Of w = (1, 2) the scores w^2/U_ii^2 are 3/2 and 8: the first goes and costs 3/4, the second gets
    2 - 1 U_01/U_00 = 2.5.
    """
    found = sparsegpt(np.array([[1.0], [2.0]]), "1:2", [[2, 1], [1, 2]], damping=0)
    np.testing.assert_allclose(found.weight, [[0], [2.5]], rtol=1e-14)
    assert found.mask.tolist() == [[False], [True]]
    assert found.loss == pytest.approx(0.75, rel=1e-14)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0.05, 0.95))
def test_unstructured_sparsegpt_keeps_its_share_of_each_block(seed, block, density):
    """The loss is the quadratic form of the change whatever the mask; the first block's mask sees given weights."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((37, 5))
    h = statistics_of(inputs_like(rng, 200, 37)).hessian
    damped = h + 0.01 * h.diagonal().mean() * np.eye(37)
    found = sparsegpt(w, f"unstructured:{density}", h, block=block)
    for start in range(0, 37, block):
        part = found.mask[start : start + block]
        assert part.sum() == round(density * part.size)
    costs = np.array([1 / np.linalg.inv(damped[i:, i:])[0, 0] for i in range(37)])[:, None] * w**2
    first = found.mask[:block]
    assert costs[:block][first].min(initial=np.inf) > costs[:block][~first].max(initial=0)
    np.testing.assert_allclose(found.loss, half_trace(found.weight - w, damped), rtol=1e-6)


@pytest.mark.parametrize("inputs", [64, 65, 200])
def test_the_loss_of_many_inputs_is_the_error_of_the_outputs(inputs):
    """Without damping half the trace is the squared error of the outputs; what is kept after the last input that is
    pruned, here 8 large weights, is the least-squares fit: the error is orthogonal to their inputs.
    """
    rng = np.random.default_rng(inputs)
    x, w = inputs_like(rng, 4 * inputs, inputs), rng.standard_normal((inputs, 6))
    w[-8:] *= 1e6
    found = sparsegpt(w, "unstructured:0.5", statistics_of(x).hessian, damping=0)
    error = x @ (found.weight - w)
    np.testing.assert_allclose(found.loss, (error**2).sum(), rtol=1e-6)
    assert found.mask[-8:].all()
    np.testing.assert_allclose(x[:, -8:].T @ error, 0, atol=1e-7 * np.linalg.norm(x) * np.linalg.norm(error))


def test_white_inputs_make_sparsegpt_a_magnitude_mask():
    """With H a multiple of the identity no input can stand in for another."""
    w = np.random.default_rng(1).standard_normal((3, 3, 10, 6))
    found = sparsegpt(w, "2:4", 3 * np.eye(90))
    np.testing.assert_array_equal(found.mask, magnitude_mask(w, "2:4", -2))
    np.testing.assert_array_equal(found.weight, np.where(found.mask, w, 0))


def test_inputs_that_are_never_active_get_no_weight():
    """The others are pruned as without them, group by group, when whole groups are silent."""
    rng = np.random.default_rng(2)
    x, w = inputs_like(rng, 100, 16), rng.standard_normal((16, 4))
    x[:, 4:8] = 0
    full = sparsegpt(w, "2:4", statistics_of(x).hessian, damping=0)
    awake = np.r_[0:4, 8:16]
    part = sparsegpt(w[awake], "2:4", statistics_of(x[:, awake]).hessian, damping=0)
    assert not full.weight[4:8].any()
    np.testing.assert_allclose(full.weight[awake], part.weight, rtol=1e-9, atol=1e-12)
    assert full.loss == pytest.approx(part.loss, rel=1e-9)


def test_single_precision_gives_the_same_mask():
    rng = np.random.default_rng(3)
    w = rng.standard_normal((64, 32), dtype=np.float32)
    h = statistics_of(rng.standard_normal((500, 64))).hessian
    double, single = (sparsegpt(w, "2:4", h, dtype=dtype) for dtype in ("float64", "float32"))
    assert double.weight.dtype == single.weight.dtype == np.float32
    np.testing.assert_array_equal(double.mask, single.mask)
    np.testing.assert_allclose(double.weight, single.weight, rtol=0, atol=1e-5)


def test_the_scale_of_the_inputs_changes_the_loss_only():
    """Inputs twice as large, or counted as a quarter of the samples, cost four times as much."""
    rng = np.random.default_rng(4)
    x, w = inputs_like(rng, 60, 8), rng.standard_normal((8, 5))
    counted = InputStatistics(8, hessian=True)
    counted.add(x, samples=4)
    one, double, quarter = (sparsegpt(w, "2:4", s.hessian) for s in (statistics_of(x), statistics_of(2 * x), counted))
    for other, factor in ((double, 4), (quarter, 1 / 4)):
        np.testing.assert_allclose(other.weight, one.weight, rtol=1e-9)
        assert other.loss == pytest.approx(factor * one.loss, rel=1e-9)


def test_a_dense_pattern_changes_nothing():
    w = np.ones((4, 3), np.float16)
    found = sparsegpt(w, "dense", np.eye(4))
    assert found.weight is not w
    assert (found.weight == w).all()
    assert found.mask.all()
    assert found.loss == 0


def test_wanda_by_hand():
    """Two samples of one token, x = (1, 3) and (1, 5): scaler (1, 17); 4 > 1 but 4 sqrt(1) < 1 sqrt(17) = 4.12."""
    statistics = statistics_of(np.array([[[1.0, 3]], [[1, 5]]]), hessian=False)
    assert statistics.scaler.tolist() == [1, 17]
    w = np.array([[-4.0, 5], [1, -1]])
    np.testing.assert_allclose(wanda_scores(w, statistics.scaler), [[4, 5], [17**0.5, 17**0.5]])
    pruned, mask = one_shot(w, "1:2", "wanda", statistics)
    assert mask.tolist() == [[False, True], [True, False]]
    assert pruned.tolist() == [[0, 5], [1, 0]]
    assert one_shot(w, "1:2")[1].tolist() == [[True, True], [False, False]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(["2:4", "1:3", "fan-in:7", "2:2:8", "unstructured:0.3"]))
def test_wanda_is_the_magnitude_of_the_weight_times_the_norm_of_its_input(seed, pattern):
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((3, 2, 8, 5)), rng.standard_normal((20, 48))
    pruned, mask = one_shot(w, pattern, "wanda", statistics_of(x, hessian=False))
    scaled = (w.reshape(48, 5) * np.linalg.norm(x, axis=0)[:, None]).reshape(w.shape)
    if pattern.startswith(("fan", "uns")):
        assert (mask.sum(axis=(0, 1, 2)) == (7 if pattern == "fan-in:7" else round(0.3 * 48))).all()
    if pattern == "unstructured:0.3":
        pattern = "fan-in:14"
    np.testing.assert_array_equal(mask, one_shot(scaled, pattern)[1])
    np.testing.assert_array_equal(pruned, np.where(mask, w, 0))


def test_an_output_keeps_at_least_one_input():
    w = np.arange(1.0, 9).reshape(4, 2)
    mask = one_shot(w, "unstructured:0.01", "wanda", statistics_of(np.ones((1, 4)), hessian=False))[1]
    assert mask.tolist() == [[False, False]] * 3 + [[True, True]]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_its_pattern(method):
    rng = np.random.default_rng(5)
    w = rng.standard_normal((3, 3, 8, 4), dtype=np.float32)
    statistics = statistics_of(rng.standard_normal((10, 9, 72)))
    pruned, mask = one_shot(w, "2:8", method, statistics)
    assert pruned.dtype == w.dtype
    assert (mask.sum(axis=-2) == 2).all()
    assert not pruned[~mask].any()
    masked, same = one_shot(w, "2:8", method, statistics, mask_only=True)
    np.testing.assert_array_equal(same, mask)
    np.testing.assert_array_equal(masked, np.where(mask, w, 0))
    assert (method == "sparsegpt") == (not np.array_equal(masked, pruned))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_statistics_of_batches_add_up(seed, sizes):
    """Batches [samples, 2, in] give the mean over samples, whatever their sizes; the sums over chunks of tokens too."""
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((size, 2, 6), dtype=np.float32) for size in sizes]
    statistics = InputStatistics(6, hessian=True)
    for batch in batches:
        statistics.add(batch)
    x = np.concatenate(batches).astype(np.float64).reshape(-1, 6)
    assert (statistics.samples, statistics.tokens) == (sum(sizes), 2 * sum(sizes))
    np.testing.assert_allclose(statistics.hessian, 2 / sum(sizes) * x.T @ x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(statistics.hessian, statistics.hessian.T, rtol=1e-14)
    np.testing.assert_allclose(statistics.scaler, (x**2).sum(axis=0) / sum(sizes), rtol=1e-12)


def test_samples_are_the_first_axis_and_a_matrix_is_one_sample():
    statistics = InputStatistics(2)
    for x, samples in ((np.ones((5, 2)), 1), (np.ones(2), 2), (np.ones((3, 4, 4, 2), np.int8), 5)):
        statistics.add(x)
        assert statistics.samples == samples
    statistics.add(np.ones((5, 2)), samples=5)
    assert (statistics.samples, statistics.tokens) == (10, 5 + 1 + 48 + 5)
    assert statistics.scaler.tolist() == [5.9, 5.9]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused_and_not_counted(bad):
    statistics = statistics_of(np.ones((2, 3)))
    x = np.ones((2000, 3))
    x[1500, 1] = bad
    with pytest.raises(PatternError, match="1 of 6000 inputs are NaN or infinite"):
        statistics.add(x)
    assert (statistics.samples, statistics.tokens) == (1, 2)
    assert statistics.hessian.tolist() == [[4.0] * 3] * 3


@pytest.mark.parametrize("x", [np.ones((2, 4)), np.ones(()), np.ones((0, 3))])
def test_inputs_of_another_size_are_refused(x):
    with pytest.raises(ShapeError, match=r"statistics of \[..., 3\]"):
        InputStatistics(3).add(x)


W, EYE = np.ones((4, 2)), np.eye(4)
UNUSED = InputStatistics(4, hessian=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: InputStatistics(0), ShapeError, "at least 1 input, not 0"),
        (lambda: UNUSED.add(np.ones((2, 4)), samples=0), ShapeError, "at least 1 sample, not 0"),
        (lambda: UNUSED.add(np.ones((2, 4), complex)), PatternError, "real numbers, not complex128"),
        (lambda: UNUSED.scaler, ShapeError, "no inputs"),
        (lambda: statistics_of(np.ones((2, 4)), hessian=False).hessian, ShapeError, "hessian=True"),
        (lambda: one_shot(W, "2:4", "wand"), UnsupportedError, "did you mean wanda"),
        (lambda: one_shot(W, "2:4", "wanda"), ShapeError, "need the statistics"),
        (lambda: one_shot(W, "2:4", "sparsegpt"), ShapeError, "need the statistics"),
        (lambda: one_shot(W, "4:2"), PatternError, "4:2"),
        (lambda: one_shot(np.ones(4), "2:4"), ShapeError, r"\[..., in, out\]"),
        (lambda: one_shot(np.full((4, 2), np.nan), "2:4"), PatternError, "8 of 8 weights are NaN"),
        (lambda: one_shot(W.astype(complex), "2:4"), PatternError, "real numbers"),
        (lambda: one_shot(W, "2:4", "wanda", statistics_of(np.ones((2, 3)))), ShapeError, r"needs \[4\]"),
        (lambda: wanda_scores(W, [1, 1, 1, -1]), PatternError, "not negative: -1"),
        (lambda: wanda_scores(W, [1, 1, 1, np.nan]), PatternError, "1 of 4 scalers are NaN"),
        (lambda: sparsegpt(W, "2:4", np.eye(3)), ShapeError, r"\[4, 4\]"),
        (lambda: sparsegpt(W, "2:4", EYE * np.nan), PatternError, "16 of 16 elements of the Hessian"),
        (lambda: sparsegpt(W, "2:4", np.ones((4, 4)), damping=0), ShapeError, "not positive definite at damping 0;"),
        (lambda: sparsegpt(W, "2:4", EYE, damping=-1), ShapeError, "not -1"),
        (lambda: sparsegpt(W, "2:4", EYE, block=0), ShapeError, "and 0"),
        (lambda: sparsegpt(W, "2:4", EYE, dtype="float16"), UnsupportedError, "float16"),
        (lambda: sparsegpt(W, "fan-in:2", EYE), PatternError, "no SparseGPT for pattern fan-in:2"),
    ],
)
def test_bad_input_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, NmsimError)
