"""Seconds of the forward and backward pass of each layer beside PyTorch on as many threads, in float32.

Run with the same number in NMSIM_THREADS, OPENBLAS_NUM_THREADS and --threads (default 2).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nmsim.train.layers.attention import Attention
from nmsim.train.layers.base import Layer, Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.embedding import Embedding
from nmsim.train.layers.linear import Linear
from nmsim.train.layers.norm import BatchNorm, LayerNorm
from nmsim.train.layers.pointwise import GELU, Add, Dropout, ReLU
from nmsim.train.layers.pool import AvgPool, GlobalAvgPool, MaxPool
from nmsim.train.loss import softmax_cross_entropy
from nmsim.train.optim import SGD, AdamW

REPEATS, ROUNDS = 6, 3
TOKENS, MAPS = (32, 128, 384), (64, 32, 32, 64)
RNG = np.random.default_rng(0)


def seconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The best of a few timed calls of each, in rounds: waiting threads of one library would slow the next call."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            time.sleep(0.05)
            call()
            for _ in range(REPEATS):
                start = time.perf_counter()
                call()
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def ours(layer: Layer, inputs: Sequence[np.ndarray]) -> Callable[[], object]:
    """Forward and backward of a layer of nmsim."""
    dy = np.ones_like(layer.forward(Run(), *inputs))
    needs = tuple(x.dtype == np.float32 for x in inputs)

    def call() -> None:
        run = Run()
        layer.forward(run, *inputs)
        layer.backward(run, dy, needs)

    return call


def theirs(function: Callable[..., Any], inputs: Sequence[np.ndarray], maps: bool) -> Callable[[], object]:
    """The same in PyTorch; maps as channels_last."""
    import torch

    tensors = [torch.from_numpy(x.copy()) for x in inputs]
    if maps:
        tensors = [x.permute(0, 3, 1, 2) for x in tensors]
    for x in tensors:
        x.requires_grad_(x.is_floating_point())
    y = function(*tensors)
    dy = torch.ones_like(y)

    def call() -> None:
        function(*tensors).backward(dy)
        for x in tensors:
            x.grad = None

    return call


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def layers() -> list[tuple[str, Layer, Callable[..., Any], list[np.ndarray], bool]]:
    """Name, layer, the function of PyTorch, inputs, and whether these are maps."""
    import torch
    from torch import nn
    from torch.nn import functional

    x, maps, dim = normal(*TOKENS), normal(*MAPS), TOKENS[-1]
    heads = dim // 64

    def attention(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def plain_attention(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        return ((q @ k.transpose(2, 3) * 0.125).softmax(-1) @ v).transpose(1, 2).flatten(2)

    qkv = [normal(*TOKENS) for _ in range(3)]
    channels, ids = MAPS[-1], RNG.integers(0, 8000, TOKENS[:2])
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    return [
        ("linear", Linear("l", dim, 4 * dim, RNG), nn.Linear(dim, 4 * dim), [x], False),
        ("layernorm", LayerNorm("l", dim), nn.LayerNorm(dim), [x], False),
        ("gelu", GELU("l"), nn.GELU(approximate="tanh"), [normal(*TOKENS[:2], 4 * dim)], False),
        ("attention (sdpa)", Attention("l", heads), attention, qkv, False),
        ("attention (plain)", Attention("l", heads), plain_attention, qkv, False),
        ("dropout", Dropout("l", 0.1), nn.Dropout(0.1), [x], False),
        ("add", Add("l"), lambda a, b: a + b, [x, x.copy()], False),
        ("embedding", Embedding("l", 8000, dim, RNG), nn.Embedding(8000, dim), [ids], False),
        ("conv 3x3", Conv2d("l", channels, channels, 3, RNG, padding=1), convolution, [maps], True),
        ("batchnorm", BatchNorm("l", channels), nn.BatchNorm2d(channels), [maps], True),
        ("relu", ReLU("l"), nn.ReLU(), [maps], True),
        ("maxpool 2", MaxPool("l", 2), nn.MaxPool2d(2), [maps], True),
        ("maxpool 3/2", MaxPool("l", 3, 2, 1), nn.MaxPool2d(3, 2, 1), [maps], True),
        ("avgpool 2", AvgPool("l", 2), nn.AvgPool2d(2), [maps], True),
        ("global avgpool", GlobalAvgPool("l"), lambda x: x.mean((2, 3)), [maps], True),
    ]


def loss_pair() -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    logits, targets = normal(2048, 8000), RNG.integers(0, 8000, 2048)
    z, t = torch.from_numpy(logits.copy()).requires_grad_(), torch.from_numpy(targets)

    def call() -> None:
        torch.nn.functional.cross_entropy(z, t, label_smoothing=0.1).backward()
        z.grad = None

    return lambda: softmax_cross_entropy(logits, targets, 0.1), call


def optimizer_pair(name: str) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    layer = Linear("l", 1536, 1536, RNG)
    layer.weight.grad = normal(1536, 1536)
    weight = torch.nn.Parameter(torch.from_numpy(layer.weight.value.copy()))
    weight.grad = torch.from_numpy(layer.weight.grad.copy())
    mine = SGD(0.9, 1e-4) if name == "sgd" else AdamW()
    other = torch.optim.SGD([weight], 0.1, 0.9, weight_decay=1e-4) if name == "sgd" else torch.optim.AdamW([weight])
    return lambda: mine.step([layer.weight], 1e-3), other.step


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args(arguments).threads
    if importlib.util.find_spec("torch") is None:
        print("layers: PyTorch is not installed, nothing to compare with")
        return
    import torch

    torch.set_num_threads(threads)
    print(f"{'layer':<18} {'nmsim ms':>9} {'torch ms':>9} {'ratio':>6}")
    pairs = [(name, ours(layer, xs), theirs(f, xs, maps)) for name, layer, f, xs, maps in layers()]
    pairs += [("cross entropy", *loss_pair()), ("sgd", *optimizer_pair("sgd")), ("adamw", *optimizer_pair("adamw"))]
    for name, mine, other in pairs:
        a, b = seconds([mine, other])
        print(f"{name:<18} {a * 1e3:>9.2f} {b * 1e3:>9.2f} {a / b:>6.2f}")


if __name__ == "__main__":
    main()
