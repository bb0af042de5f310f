"""Softmax cross-entropy against a hand count, differences and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmsim.errors import ShapeError
from nmsim.train.gradcheck import check_gradients
from nmsim.train.loss import softmax_cross_entropy

RNG = np.random.default_rng(0)


def test_two_classes_by_hand():
    """Logits (ln 3, 0): probabilities 3/4 and 1/4. Loss -ln 3/4 for class 0, -ln 1/4 for class 1; gradient p - 1[y]."""
    logits = np.array([[math.log(3), 0.0], [math.log(3), 0.0]])
    loss, gradient, accuracy = softmax_cross_entropy(logits, np.array([0, 1]))
    assert loss == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, np.array([[-0.25, 0.25], [0.75, -0.75]]) / 2, rtol=1e-14)
    assert accuracy == 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_the_loss(smoothing):
    logits, targets = RNG.standard_normal((2, 3, 5)), np.array([[0, 4, -1], [2, -1, 2]])
    assert check_gradients(lambda z: softmax_cross_entropy(z, targets, smoothing)[:2], logits) < 1e-6


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_as_pytorch(dtype, rtol, smoothing):
    """float32: sums over 50 classes, a few units of the last of 7 digits."""
    torch = pytest.importorskip("torch")
    logits = (4 * RNG.standard_normal((6, 7, 50))).astype(dtype)
    targets = RNG.integers(-1, 50, (6, 7))
    z = torch.from_numpy(logits.copy()).requires_grad_()
    wanted = torch.nn.functional.cross_entropy(
        z.reshape(-1, 50), torch.from_numpy(targets.reshape(-1)), ignore_index=-1, label_smoothing=smoothing
    )
    wanted.backward()
    loss, gradient, accuracy = softmax_cross_entropy(logits, targets, smoothing)
    assert loss == pytest.approx(wanted.item(), rel=rtol)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=rtol, atol=rtol * 1e-2)
    counted = targets >= 0
    assert gradient.dtype == dtype
    assert accuracy == (logits.argmax(-1) == targets)[counted].mean()


def test_large_logits_do_not_overflow():
    loss, gradient, _ = softmax_cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1.0, -1.0]])


def test_nothing_counted_is_zero_and_a_target_that_is_no_class_is_refused():
    loss, gradient, accuracy = softmax_cross_entropy(np.ones((2, 3), np.float32), np.array([-1, -1]))
    assert (loss, accuracy, gradient.any()) == (0.0, 0.0, False)
    for targets in ([0, 3], [0, -2], [0]):
        with pytest.raises(ShapeError, match=r"classes 0 \.\.\. 2"):
            softmax_cross_entropy(np.ones((2, 3), np.float32), np.array(targets))
