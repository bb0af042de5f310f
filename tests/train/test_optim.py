"""Optimizers against PyTorch's, their state, and schedules counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.train.layers.base import Parameter
from nmsim.train.optim import SGD, Adam, AdamW, Constant, Cosine, Step, make_optimizer, make_schedule

STEPS = 20
CASES = {
    "sgd": (lambda: SGD(), lambda torch, p, d: torch.optim.SGD(_groups(p, d))),
    "momentum": (lambda: SGD(0.9, 0.1), lambda torch, p, d: torch.optim.SGD(_groups(p, d), momentum=0.9)),
    "nesterov": (
        lambda: SGD(0.9, 0.1, nesterov=True),
        lambda torch, p, d: torch.optim.SGD(_groups(p, d), momentum=0.9, nesterov=True),
    ),
    "adam": (lambda: Adam(weight_decay=0.1), lambda torch, p, d: torch.optim.Adam(_groups(p, d))),
    "adamw": (
        lambda: AdamW((0.8, 0.95), 1e-6, 0.1),
        lambda torch, p, d: torch.optim.AdamW(_groups(p, d), betas=(0.8, 0.95), eps=1e-6),
    ),
}


def _groups(parameters, decay):
    """Weight decay for the first parameter only, the learning rate set at each step."""
    return [
        {"params": [p], "weight_decay": decay * (i == 0), "lr": 0.0, "foreach": False} for i, p in enumerate(parameters)
    ]


def _parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [
        Parameter("w", rng.standard_normal((300, 500)).astype(dtype)),
        Parameter("b", rng.standard_normal(5).astype(dtype), decays=False),
    ]


def _gradients(parameters, step):
    rng = np.random.default_rng(step)
    return [rng.standard_normal(p.value.shape).astype(p.value.dtype) for p in parameters]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_as_pytorch(name, dtype, rtol):
    """float32: 20 steps that each round to 7 digits."""
    torch = pytest.importorskip("torch")
    parameters = _parameters(dtype)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.value.copy())) for p in parameters]
    mine, other = CASES[name][0](), CASES[name][1](torch, theirs, 0.0 if name == "sgd" else 0.1)
    for step in range(STEPS):
        rate = 0.1 / (step + 1)
        for p, t, g in zip(parameters, theirs, _gradients(parameters, step), strict=True):
            p.grad, t.grad = g, torch.from_numpy(g.copy())
        for group in other.param_groups:
            group["lr"] = rate
        mine.step(parameters, rate)
        other.step()
    for p, t in zip(parameters, theirs, strict=True):
        assert p.value.dtype == dtype
        np.testing.assert_allclose(p.value, t.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", CASES)
def test_a_restored_optimizer_goes_on_bit_for_bit(name):
    def train(optimizer, parameters, steps):
        for step in steps:
            for p, g in zip(parameters, _gradients(parameters, step), strict=True):
                p.grad = g
            optimizer.step(parameters, 0.1)

    whole = _parameters()
    train(CASES[name][0](), whole, range(6))
    parts, first, second = _parameters(), CASES[name][0](), CASES[name][0]()
    train(first, parts, range(3))
    second.restore(first.state())
    train(second, parts, range(3, 6))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_steps_are_in_place_and_leave_gradients_alone():
    parameters = _parameters()
    values = [p.value for p in parameters]
    parameters[0].grad = np.ones_like(values[0])
    AdamW().step(parameters, 0.1)
    assert all(p.value is v for p, v in zip(parameters, values, strict=True))
    assert (parameters[0].grad == 1).all()
    np.testing.assert_array_equal(parameters[1].value, _parameters()[1].value)


def test_a_state_of_another_shape_is_refused():
    optimizer = SGD(0.9)
    optimizer.restore({"b/velocity": np.zeros(4)})
    b = _parameters()[1]
    b.grad = b.value
    with pytest.raises(ShapeError, match=r"b is \(5,\)"):
        optimizer.step([b], 0.1)


def test_schedules_by_hand():
    """Warm-up of 4 steps to 1: 1/4, 2/4, 3/4, 1. Half a cosine from 1 to 0.2 over 4 ... 12 is at 0.6 half-way."""
    assert [Constant(1.0, warmup=4).rate(s) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [Step(1.0, (2, 3), 0.5).rate(s) for s in range(5)] == [1, 1, 0.5, 0.25, 0.25]
    cosine = Cosine(1.0, 12, floor=0.2, warmup=4)
    assert [cosine.rate(s) for s in (0, 4, 8, 12, 99)] == pytest.approx([0.25, 1.0, 0.6, 0.2, 0.2], rel=1e-14)


def test_schedules_and_optimizers_by_name():
    assert make_schedule("cosine", 0.1, 10) == Cosine(0.1, 10)
    assert make_schedule("step", 0.1, 10, every=4) == Step(0.1, (4, 8))
    assert make_schedule("constant", 0.1, 10, warmup=2) == Constant(0.1, 2)
    assert isinstance(make_optimizer("adamw", weight_decay=0.1), AdamW)
    with pytest.raises(UnsupportedError, match="did you mean cosine"):
        make_schedule("cosin", 0.1, 10)
    with pytest.raises(UnsupportedError, match="needs `every`"):
        make_schedule("step", 0.1, 10)
    with pytest.raises(UnsupportedError, match="did you mean"):
        make_optimizer("adan")
