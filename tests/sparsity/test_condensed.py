"""The condensed form: its products against those of the dense weight, round trips, and what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.condensed import KERNELS, TOKENS, Condensed, condense
from nmsim.sparsity.growth import constant_fan_in_mask

W = np.array([[0, 2, 0, -3], [0, 0, 0, 0], [5, 0, 7, 0]], float)
EXACT = {"rtol": 1e-12, "atol": 1e-12}
"""Sums of at most some hundred products of order 1 in double precision, in another order."""


@st.composite
def weights(draw):
    """A weight with constant fan-in, some of its neurons ablated, and rows of inputs and gradients."""
    out, inputs, rows = draw(st.integers(1, 9)), draw(st.integers(1, 12)), draw(st.sampled_from([0, 1, 2, 7]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = constant_fan_in_mask(out, inputs, draw(st.integers(1, inputs)), rng)
    mask[rng.random(out) < draw(st.sampled_from([0, 0.4, 1]))] = False
    return np.where(mask, rng.standard_normal(mask.shape), 0), mask, rng.standard_normal((rows, inputs))


def products(form, weight, x, dy, kernel, close):
    """All products of a form beside those of its dense weight."""
    active, mask = form.active, weight != 0
    np.testing.assert_allclose(form.matmul(x, kernel=kernel), x @ weight[active].T, **close)
    np.testing.assert_allclose(form.matmul(x, scatter=True, kernel=kernel), x @ weight.T, **close)
    for given_dy in (dy, dy[:, active]):
        np.testing.assert_allclose(
            form.input_gradient(given_dy, kernel=kernel), dy[:, active] @ weight[active], **close
        )
        found = form.weight_gradient(given_dy, x, kernel=kernel)
        np.testing.assert_allclose(found.ravel(), (dy.T @ x)[mask], **close)


@settings(max_examples=60)
@given(weights(), st.sampled_from(KERNELS))
def test_the_products_are_those_of_the_dense_weight(case, kernel):
    weight, _, x = case
    dy = np.random.default_rng(0).standard_normal((len(x), len(weight)))
    products(condense(weight), weight, x, dy, kernel, EXACT)


@pytest.mark.parametrize("kernel", KERNELS)
def test_operands_of_several_blocks(kernel):
    """More rows than a kernel takes at a time, and neurons that do not fit one block."""
    rng = np.random.default_rng(1)
    mask = constant_fan_in_mask(30, 90, 40, rng)
    mask[[3, 4, 29]] = False
    weight = np.where(mask, rng.standard_normal(mask.shape), 0)
    x, dy = rng.standard_normal((TOKENS + 9, 90)), rng.standard_normal((TOKENS + 9, 30))
    products(condense(weight), weight, x, dy, kernel, EXACT)


@given(weights())
def test_what_is_condensed_comes_back(case):
    weight, mask, _ = case
    form = condense(weight, mask)
    np.testing.assert_array_equal(form.dense(), weight)
    assert form.values.size == mask.sum()
    assert form.density == pytest.approx(mask.mean())
    again = condense(form.dense())
    np.testing.assert_array_equal(again.indices, form.indices)
    np.testing.assert_array_equal(again.active, form.active)


def test_a_form_counted_by_hand():
    """y of (1, 10, 100, 1000) is 20 - 3000 for neuron 0 and 5 + 700 for neuron 2; the bias of neuron 1 is not used."""
    form = condense(W)
    np.testing.assert_array_equal(form.values, [[2, -3], [5, 7]])
    np.testing.assert_array_equal(form.indices, [[1, 3], [0, 2]])
    np.testing.assert_array_equal(form.active, [0, 2])
    assert (form.fan_in, form.density) == (2, 4 / 12)
    x, bias = np.array([1.0, 10, 100, 1000]), np.array([0.5, 9, 0.25])
    for kernel in KERNELS:
        np.testing.assert_array_equal(form.matmul(x, bias, kernel=kernel), [-2979.5, 705.25])
        np.testing.assert_array_equal(form.matmul(x, bias[[0, 2]], scatter=True, kernel=kernel), [-2979.5, 0, 705.25])
        np.testing.assert_array_equal(form.input_gradient(np.array([1.0, 10]), kernel=kernel), [50, 2, 70, -3])
        np.testing.assert_array_equal(form.weight_gradient(np.ones(3), x, kernel=kernel), [[10, 1000], [1, 100]])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_leading_axes_and_types_are_kept(kernel, dtype):
    form = condense(W.astype(dtype))
    x = np.ones((2, 5, 4), dtype)
    y = form.matmul(x, kernel=kernel)
    assert (y.shape, y.dtype) == ((2, 5, 2), dtype)
    dx = form.input_gradient(y, kernel=kernel)
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    assert form.weight_gradient(y, x, kernel=kernel).dtype == dtype


def test_a_mask_keeps_weights_that_are_0():
    """A grown weight is 0 until it is trained, and has its place."""
    form = condense(W, np.array([[1, 1, 0, 1], [0] * 4, [1, 1, 1, 0]]))
    np.testing.assert_array_equal(form.values, [[0, 2, -3], [5, 0, 7]])
    np.testing.assert_array_equal(form.dense(), W)


def test_other_values_in_the_same_places():
    form = condense(W)
    with pytest.raises(ValueError, match="read-only"):
        form.values[0, 0] = 1
    np.testing.assert_array_equal(dataclasses.replace(form, values=2 * form.values).dense(), 2 * W)


def test_a_fan_in_that_is_not_constant_is_refused():
    with pytest.raises(PatternError, match="neuron 0 keeps 2 weights, neuron 2 1"):
        condense(np.where(W == 5, 0, W))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"indices": [[1, 4], [0, 2]]}, PatternError),
        ({"indices": [[1, -1], [0, 2]]}, PatternError),
        ({"indices": [[1, 1], [0, 2]]}, PatternError),
        ({"active": [2, 0]}, PatternError),
        ({"active": [0, 3]}, PatternError),
        ({"active": [0]}, ShapeError),
        ({"values": [[1.0], [2.0]]}, ShapeError),
        ({"inputs": 0}, ShapeError),
    ],
)
def test_parts_that_do_not_go_together_are_refused(change, error):
    with pytest.raises(error):
        Condensed(**(vars(condense(W)) | change))


def test_operands_that_do_not_fit_are_refused():
    form = condense(W)
    with pytest.raises(ShapeError, match=r"last axis of x has 4"):
        form.matmul(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"last axis of dy has 2 or 3"):
        form.input_gradient(np.ones((2, 4)))
    with pytest.raises(ShapeError, match="same rows"):
        form.weight_gradient(np.ones((3, 2)), np.ones((2, 4)))
    for bias in (np.ones(4), np.ones((1, 2)), 1.0):
        with pytest.raises(ShapeError, match="bias"):
            form.matmul(np.ones((2, 4)), bias)
    with pytest.raises(UnsupportedError, match="did you mean gather"):
        form.matmul(np.ones((2, 4)), kernel="gathr")
    for weight, mask in ((W[0], None), (W, W[:2])):
        with pytest.raises(ShapeError, match=r"are \[out, in\]"):
            condense(weight, mask)
