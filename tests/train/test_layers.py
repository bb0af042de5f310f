"""Each layer against differences in float64, against PyTorch, and its rows against those the planner lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import ShapeError
from nmsim.train import parallel
from nmsim.train.gradcheck import check_gradients
from nmsim.train.layers.attention import Attention
from nmsim.train.layers.base import Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.embedding import Embedding, Learned
from nmsim.train.layers.linear import Linear
from nmsim.train.layers.norm import BatchNorm, LayerNorm
from nmsim.train.layers.pointwise import GELU, Add, Dropout, ReLU
from nmsim.train.layers.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from nmsim.train.products import Products
from nmsim.workloads import modelfile as m
from nmsim.workloads.lower import backward_rows, forward_rows
from nmsim.workloads.shapes import Run as Plan

RNG = np.random.default_rng(0)
BATCH, SIDE, CHANNELS, TOKENS, DIM, HEADS = 2, 6, 4, 5, 12, 3
MAPS, SEQUENCE = (BATCH, SIDE, SIDE, CHANNELS), (BATCH, TOKENS, DIM)
IDS = np.array([[0, 3, 3, 6, 1], [3, 3, 0, 2, 3]])
KEEP = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.bool_)


def normal(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def qkv(dtype=np.float64):
    return [normal(*SEQUENCE, dtype=dtype) for _ in range(3)]


CASES = {
    "linear": lambda: (Linear("l", DIM, 7, RNG), [normal(*SEQUENCE)]),
    "linear without bias": lambda: (Linear("l", DIM, 7, RNG, bias=False), [normal(4, DIM)]),
    **{
        f"conv {kernel} stride {stride} padding {padding} groups {groups}": (
            lambda k=kernel, s=stride, p=padding, g=groups: (
                Conv2d("l", CHANNELS, 8, k, RNG, s, p, g, bias=g == 1),
                [normal(*MAPS)],
            )
        )
        for kernel, stride, padding, groups in [(3, 1, 1, 1), (3, 2, 1, 1), (1, 1, 0, 1), (3, 1, 1, 4), (2, 2, 0, 2)]
    },
    "batchnorm": lambda: (_trained(BatchNorm("l", CHANNELS)), [normal(*MAPS)]),
    "batchnorm of odd rows": lambda: (_trained(BatchNorm("l", DIM)), [normal(7, DIM)]),
    "layernorm": lambda: (_trained(LayerNorm("l", DIM)), [normal(*SEQUENCE)]),
    "relu": lambda: (ReLU("l"), [normal(*MAPS)]),
    "gelu": lambda: (GELU("l"), [3 * normal(*SEQUENCE)]),
    "add": lambda: (Add("l"), [normal(*SEQUENCE), normal(*SEQUENCE)]),
    "add to every sample": lambda: (Add("l"), [normal(*SEQUENCE), normal(*SEQUENCE[1:])]),
    "learned": lambda: (Learned("l", (2, 3, DIM), RNG), []),
    "dropout": lambda: (Dropout("l", 0.4), [normal(*SEQUENCE)]),
    "maxpool": lambda: (MaxPool("l", 2), [normal(*MAPS)]),
    "maxpool overlapping": lambda: (MaxPool("l", 3, 2, 1), [normal(*MAPS)]),
    "maxpool with gaps": lambda: (MaxPool("l", 2, 3), [normal(*MAPS)]),
    "avgpool": lambda: (AvgPool("l", 2), [normal(*MAPS)]),
    "avgpool overlapping": lambda: (AvgPool("l", 3, 2, 1), [normal(*MAPS)]),
    "global maxpool": lambda: (GlobalMaxPool("l"), [normal(*MAPS)]),
    "global avgpool": lambda: (GlobalAvgPool("l"), [normal(*MAPS)]),
    "embedding": lambda: (Embedding("l", 7, DIM, RNG), [IDS]),
    "positions": lambda: (Learned("l", (TOKENS, DIM), RNG), [normal(*SEQUENCE)]),
    "positions and class token": lambda: (Learned("l", (TOKENS + 1, DIM), RNG, token="t"), [normal(*SEQUENCE)]),
    "attention": lambda: (Attention("l", HEADS), qkv()),
    "attention causal": lambda: (Attention("l", HEADS, causal=True), qkv()),
    "attention with padding": lambda: (Attention("l", HEADS), [*qkv(), KEEP]),
    "attention causal with padding": lambda: (Attention("l", HEADS, causal=True), [*qkv(), KEEP]),
    "cross attention": lambda: (Attention("l", HEADS), [normal(2, 3, DIM), *qkv()[1:]]),
}


def _trained(layer):
    """With parameters that are not the initial ones."""
    for parameter in layer.parameters():
        parameter.value = normal(*parameter.value.shape, dtype=np.float32)
    return layer


@pytest.mark.parametrize("name", CASES)
def test_backward_agrees_with_differences(name):
    layer, inputs = CASES[name]()
    assert check_gradients(layer, inputs) < 1e-6


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32_and_saved_is_used_up(name):
    layer, inputs = CASES[name]()
    inputs = [x.astype(np.float32) if x.dtype == np.float64 else x for x in inputs]
    run = Run()
    before = [x.copy() for x in inputs]
    y = layer.forward(run, *inputs)
    dy = normal(*y.shape, dtype=np.float32)
    same_dy = dy.copy()
    gradients = layer.backward(run, dy, tuple(x.dtype == np.float32 for x in inputs))
    assert y.dtype == np.float32
    assert not run.saved
    assert all(g is None or g.dtype == np.float32 for g in gradients)
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.value.shape for p in layer.parameters())
    np.testing.assert_array_equal(dy, same_dy)
    for x, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, old)


def _torch_cases(torch):
    from torch.nn import functional as f

    def heads(x):
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def attention(mask, causal=False):
        def call(q, k, v, *_):
            y = f.scaled_dot_product_attention(heads(q), heads(k), heads(v), mask, is_causal=causal)
            return y.transpose(1, 2).flatten(2)

        return call

    keep = torch.from_numpy(KEEP)[:, None, None]
    both = keep & torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    return {
        "linear": lambda x, w, b: x @ w + b,
        "conv 3 stride 2 padding 1 groups 1": lambda x, w, b: f.conv2d(x, w.permute(3, 2, 0, 1), b, 2, 1),
        "conv 3 stride 1 padding 1 groups 4": lambda x, w: f.conv2d(x, w.permute(3, 2, 0, 1), None, 1, 1, 1, 4),
        "batchnorm": lambda x, w, b: f.batch_norm(x, None, None, w, b, True),
        "layernorm": lambda x, w, b: f.layer_norm(x, (DIM,), w, b),
        "relu": f.relu,
        "gelu": lambda x: f.gelu(x, approximate="tanh"),
        "maxpool": lambda x: f.max_pool2d(x, 2),
        "maxpool overlapping": lambda x: f.max_pool2d(x, 3, 2, 1),
        "avgpool overlapping": lambda x: f.avg_pool2d(x, 3, 2, 1),
        "global maxpool": lambda x: x.amax((2, 3)),
        "global avgpool": lambda x: x.mean((2, 3)),
        "embedding": lambda x, w: f.embedding(x, w),
        "attention": attention(None),
        "attention causal": attention(None, causal=True),
        "attention with padding": attention(keep),
        "attention causal with padding": attention(both),
        "cross attention": attention(None),
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_as_pytorch(dtype, tolerance):
    """Values are about 1, sums have up to 72 terms: float32 keeps five digits."""
    torch = pytest.importorskip("torch")
    for name, function in _torch_cases(torch).items():
        layer, inputs = CASES[name]()
        inputs = [x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x for x in inputs]
        for parameter in layer.parameters():
            parameter.value = parameter.value.astype(dtype)
        leaves = [torch.from_numpy(x.copy()) for x in [*inputs, *(p.value for p in layer.parameters())]]
        for leaf in leaves:
            leaf.requires_grad_(leaf.is_floating_point())
        maps = inputs[0].ndim == 4
        given = [leaves[0].permute(0, 3, 1, 2), *leaves[1:]] if maps else leaves
        wanted = function(*given)
        if wanted.ndim == 4:
            wanted = wanted.permute(0, 2, 3, 1)
        dy = normal(*wanted.shape, dtype=dtype)
        wanted.backward(torch.from_numpy(dy))
        run = Run()
        y = layer.forward(run, *inputs)
        gradients = layer.backward(run, dy, tuple(np.issubdtype(x.dtype, np.floating) for x in inputs))
        np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=name)
        for mine, leaf in zip([*gradients, *(p.grad for p in layer.parameters())], leaves, strict=True):
            if mine is not None:
                np.testing.assert_allclose(mine, leaf.grad.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def test_running_statistics_as_pytorch():
    torch = pytest.importorskip("torch")
    layer, other = BatchNorm("l", CHANNELS), torch.nn.BatchNorm2d(CHANNELS)
    for _ in range(3):
        x = 3 + normal(*MAPS, dtype=np.float32)
        layer.forward(Run(), x)
        other(torch.from_numpy(x).permute(0, 3, 1, 2))
    other.eval()
    np.testing.assert_allclose(layer.mean, other.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, other.running_var.numpy(), rtol=1e-6)
    wanted = other(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(layer.forward(Run(training=False), x), wanted, rtol=1e-5, atol=1e-5)


class Listener:
    def __init__(self):
        self.rows = []

    def op(self, layer, stage, kind="gemm", **values):
        self.rows.append({"layer": layer, "stage": stage, "kind": kind, **values})


def _rows(layer, inputs, training=True):
    listener = Listener()
    run = Run(Products(listener=listener), training=training)
    y = layer.forward(run, *inputs)
    forward, listener.rows = listener.rows, []
    if training:
        layer.backward(run, np.ones_like(y), tuple(np.issubdtype(x.dtype, np.floating) for x in inputs))
    return forward, listener.rows


def _same(mine, planned):
    """The planner writes m_inserted everywhere, the trainer where a stride inserts."""
    assert len(mine) == len(planned)
    for row, plan in zip(mine, planned, strict=True):
        inserted = {"m_inserted": row["m"]} if "m_inserted" in plan else {}
        assert inserted | row == plan


MAP = {"input": SIDE}
PLANNED = {
    "linear": m.Linear(name="l", type="linear", **{"in": DIM, "out": 7}),
    "conv 3 stride 2 padding 1 groups 1": m.Conv(
        name="l", type="conv", **{"in": CHANNELS, "out": 8}, kernel=3, stride=2, padding=1, bias=True, **MAP
    ),
    "conv 3 stride 1 padding 1 groups 4": m.Conv(
        name="l", type="conv", **{"in": CHANNELS, "out": 8}, kernel=3, padding=1, groups=4, **MAP
    ),
    "layernorm": m.Norm(name="l", type="layernorm", dim=DIM),
    "maxpool": m.Pool(name="l", type="maxpool", channels=CHANNELS, kernel=2, **MAP),
    "maxpool overlapping": m.Pool(name="l", type="maxpool", channels=CHANNELS, kernel=3, stride=2, padding=1, **MAP),
    "avgpool": m.Pool(name="l", type="avgpool", channels=CHANNELS, kernel=2, **MAP),
    "global maxpool": m.Pool(name="l", type="maxpool", channels=CHANNELS, kernel="global", **MAP),
    "global avgpool": m.Pool(name="l", type="avgpool", channels=CHANNELS, kernel="global", **MAP),
    "embedding": m.Embedding(name="l", type="embedding", vocabulary=7, dim=DIM),
    "attention": m.Attention(name="l", type="attention", heads=HEADS, head_dim=DIM // HEADS),
    "attention causal": m.Attention(name="l", type="attention", heads=HEADS, head_dim=DIM // HEADS, causal=True),
    "cross attention": m.Attention(
        name="l", type="attention", heads=HEADS, head_dim=DIM // HEADS, tokens="short", keys="tokens"
    ),
}  # fmt: skip
PLAN = Plan(BATCH, {"tokens": TOKENS, "short": 3})


@pytest.mark.parametrize("name", PLANNED)
def test_rows_are_those_of_the_planner(name):
    layer, inputs = CASES[name]()
    planned = PLANNED[name]
    forward, backward = _rows(layer, inputs)
    _same(forward, forward_rows(planned, PLAN, training=True))
    _same(backward, backward_rows(planned, PLAN, input_gradient=True))
    _same(_rows(layer, inputs, training=False)[0], forward_rows(planned, PLAN, training=False))


THEN = {
    "relu": lambda n: ReLU(n), "gelu": lambda n: GELU(n), "batchnorm": lambda n: BatchNorm(n, DIM),
    "add": lambda n: Add(n), "dropout": lambda n: Dropout(n, 0.1),
    "positions": lambda n: Learned("pos", (TOKENS + 1, DIM), RNG, op=n, token="cls"),
}  # fmt: skip


@pytest.mark.parametrize("name", THEN)
def test_rows_of_operations_on_an_output_are_those_of_the_planner(name):
    """Positions with a class token: the addition is counted on the tokens that come in, as `then: [add]` is."""
    kind = "add" if name == "positions" else name
    planned = m.Linear(name="l", type="linear", **{"in": DIM, "out": DIM}, then=[kind])
    layer, inputs = THEN[name](f"l.{kind}"), [normal(*SEQUENCE)] * (2 if name == "add" else 1)
    forward, backward = _rows(layer, inputs)
    _same(forward, forward_rows(planned, PLAN, training=True)[1:])
    _same(backward, backward_rows(planned, PLAN, input_gradient=True)[:-2])
    _same(_rows(layer, inputs, training=False)[0], forward_rows(planned, PLAN, training=False)[1:])


def test_variance_survives_a_large_mean():
    """float32 with mean 1000 and variance 1: E[x²] - mean² would have an error of 0.1, merged blocks have 1e-4."""
    x = (1000 + normal(512, 16, 16, 8)).astype(np.float32)
    layer = BatchNorm("l", 8)
    layer.forward(run := Run(), x)
    _, mean, inverse = run.saved["l"]
    exact = x.astype(np.float64).reshape(-1, 8)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(inverse, (exact.var(axis=0) + 1e-5) ** -0.5, rtol=1e-4)


def test_of_equal_values_the_first_gets_the_gradient():
    x = np.ones((1, 4, 4, 1), np.float32)
    for layer in (MaxPool("l", 2), GlobalMaxPool("l")):
        layer.forward(run := Run(), x)
        (dx,) = layer.backward(
            run, np.ones((1, 2, 2, 1) if layer.__class__ is MaxPool else (1, 1), np.float32), (True,)
        )
        wanted = np.zeros((4, 4))
        wanted[:: 2 if layer.__class__ is MaxPool else 4, :: 2 if layer.__class__ is MaxPool else 4] = 1
        np.testing.assert_array_equal(dx[0, :, :, 0], wanted)


def test_a_query_that_sees_no_key_gives_zero_and_has_no_gradient():
    x = qkv()
    layer = Attention("l", HEADS)
    keep = np.array([[True] * TOKENS, [False] * TOKENS])
    y = layer.forward(run := Run(), *x, keep)
    gradients = layer.backward(run, np.ones_like(y), (True, True, True, False))
    assert np.abs(y[0]).min() > 0
    assert not y[1].any()
    assert not any(g[1].any() for g in gradients[:3])
    assert gradients[3] is None


def test_dropout_keeps_its_share_and_its_mean():
    """A million draws that keep 0.9: standard deviation 0.0003, five of them are 0.0015."""
    x = np.ones(1_000_000, np.float32)
    y = Dropout("l", 0.1).forward(Run(), x)
    assert abs((y > 0).mean() - 0.9) < 0.0015
    assert abs(y.mean() - 1) < 0.0017
    assert Dropout("l", 0.1).forward(Run(training=False), x) is x


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_the_number_of_threads_changes_nothing(threads, monkeypatch):
    x, maps = RNG.standard_normal((3000, 200), np.float32), RNG.standard_normal((9, 64, 64, 24), np.float32)
    cases = [
        (LayerNorm("a", 200), x),
        (BatchNorm("b", 24), maps),
        (Dropout("c", 0.5), x),
        (MaxPool("d", 3, 1, 1), maps),
    ]
    for layer, x in cases:
        results = []
        for count in ("1", threads):
            monkeypatch.setenv("NMSIM_THREADS", count)
            y = layer.forward(run := Run(), x)
            results.append([y, *layer.backward(run, y * y, (True,)), *(p.grad for p in layer.parameters())])
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_error_in_a_helper_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("NMSIM_THREADS", "3")

    def fail(i):
        if i == 7:
            raise ShapeError("seven")
        return i

    assert parallel.in_parallel(lambda i: i * i, 50) == [i * i for i in range(50)]
    with pytest.raises(ShapeError, match="seven"):
        parallel.in_parallel(fail, 50)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=80), st.integers(1, 3))
def test_embedding_gradient_is_the_scattered_sum(ids, dim):
    layer, run = Embedding("l", 10, dim, RNG), Run()
    given_ids = np.array(ids, np.int64)
    layer.forward(run, given_ids)
    dy = normal(len(ids), dim)
    layer.backward(run, dy, (False,))
    wanted = np.zeros((10, dim))
    np.add.at(wanted, given_ids, dy)
    np.testing.assert_allclose(layer.weight.grad, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(4, 9), st.integers(4, 9))
def test_pooling_is_that_of_each_window(kernel, stride, padding, height, width):
    padding = min(padding, kernel // 2)
    x = normal(2, height, width, 3)
    edge = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    for layer, reduce, fill in ((MaxPool, np.max, -np.inf), (AvgPool, np.mean, 0.0)):
        padded = np.pad(x, edge, constant_values=fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
        y = layer("l", kernel, stride, padding).forward(Run(), x)
        np.testing.assert_allclose(y, reduce(windows, axis=(-2, -1)), rtol=1e-12, atol=1e-15)


def test_mistakes_are_named():
    with pytest.raises(ShapeError, match="not in 0"):
        Embedding("l", 3, 2, RNG).forward(Run(), np.array([3]))
    with pytest.raises(ShapeError, match="do not divide"):
        Attention("l", 5).forward(Run(), *qkv())
    with pytest.raises(ShapeError, match="does not fit"):
        MaxPool("l", 7).forward(Run(), normal(*MAPS))
    with pytest.raises(ShapeError, match="cannot be added"):
        Learned("l", (TOKENS - 1, DIM), RNG).forward(Run(), normal(*SEQUENCE))
    with pytest.raises(ShapeError, match="adds arrays"):
        Add("l").forward(Run(), normal(2, 3), normal(3, 2))
    with pytest.raises(ShapeError, match="not in"):
        Dropout("l", 1.0)
