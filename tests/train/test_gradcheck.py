"""The gradient checker finds wrong backward passes and leaves the layer as it was."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.train.gradcheck import GradientError, check_gradients
from nmsim.train.layers.linear import Linear
from nmsim.train.layers.norm import BatchNorm
from nmsim.train.layers.pointwise import GELU

X = np.random.default_rng(0).standard_normal((3, 4))


class WrongGELU(GELU):
    def backward(self, run, dy, needs):
        (dx,) = super().backward(run, dy, needs)
        dx[1, 2] *= 1.0 + 1e-4
        return (dx,)


class WrongBias(Linear):
    def backward(self, run, dy, needs):
        gradients = super().backward(run, dy, needs)
        self.bias.grad = self.bias.grad * 2
        return gradients


class NoGradient(Linear):
    def backward(self, run, dy, needs):
        gradients = super().backward(run, dy, needs)
        self.bias.grad = None
        return gradients


def test_a_wrong_element_is_named():
    with pytest.raises(GradientError, match=r"layer 'act': input 0 at \(1, 2\)"):
        check_gradients(WrongGELU("act"), X)


def test_a_wrong_parameter_is_named():
    with pytest.raises(GradientError, match=r"layer 'fc': fc.bias at"):
        check_gradients(WrongBias("fc", 4, 2, np.random.default_rng(0)), X)


def test_a_missing_gradient_is_named():
    with pytest.raises(GradientError, match=r"fc.bias \(2,\) has a gradient of None"):
        check_gradients(NoGradient("fc", 4, 2, np.random.default_rng(0)), X)


def test_a_function_is_checked_on_its_value():
    """d(Σ x² y)/dx = 2xy, d/dy = x²; with 3xy for the first the check fails."""
    y = X + 1.0
    assert check_gradients(lambda x, y: (float(np.sum(x * x * y)), (2 * x * y, x * x)), [X, y]) < 1e-6
    with pytest.raises(GradientError, match="input 0"):
        check_gradients(lambda x, y: (float(np.sum(x * x * y)), (3 * x * y, x * x)), [X, y])


def test_the_layer_and_the_inputs_are_left_as_they_were():
    layer, x = BatchNorm("bn", 4), X.astype(np.float32)
    before = [p.value for p in layer.parameters()]
    check_gradients(layer, x)
    assert all(p.value is value and p.grad is None for p, value in zip(layer.parameters(), before, strict=True))
    assert not layer.mean.any()
    np.testing.assert_array_equal(x, X.astype(np.float32))
