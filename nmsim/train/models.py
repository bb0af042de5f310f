"""The reference networks: each is a function of sizes and a random generator, and also a workload for the planner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.train.build import Builder
from nmsim.train.network import Network

BN_RELU = ("batchnorm", "relu")


def mlp(rng: np.random.Generator, inputs: int = 40, width: int = 256, depth: int = 3, classes: int = 10) -> Network:
    """Linear layers with ReLU between them; inputs [B, inputs]."""
    b = Builder("mlp", rng)
    x, features = "inputs", inputs
    for i in range(depth - 1):
        dense = "first layer" if i == 0 else ""
        x = b.linear(f"fc{i + 1}", x, features, width, "sample", then=("relu",), gain=2**0.5, dense=dense)
        features = width
    b.linear("head", x, features, classes, "sample", dense="classifier")
    return b.finish("inputs")


def resnet9(
    rng: np.random.Generator, width: int = 128, size: int = 32, channels: int = 3, classes: int = 10
) -> Network:
    """ResNet9 as SDGP and ffcv train it on CIFAR-10 (width 128: 9.1 million parameters); width 16 is the narrow one."""
    b, w = Builder("resnet9" if width == 128 else f"resnet9_{width}", rng, size), width
    x = b.conv("conv1", "inputs", channels, w, then=BN_RELU, dense="first layer")
    x = b.conv("conv2", x, w, 2 * w, kernel=5, stride=2, padding=2, then=BN_RELU)
    x = _residual(b, "res1", x, 2 * w)
    x = b.conv("conv3", x, 2 * w, 4 * w, then=BN_RELU)
    x = b.pool("pool", x, 4 * w, "maxpool", 2)
    x = _residual(b, "res2", x, 4 * w)
    x = b.conv("conv4", x, 4 * w, 2 * w, padding=0, then=BN_RELU)
    x = b.pool("global_pool", x, 2 * w, "maxpool")
    b.linear("head", x, 2 * w, classes, "sample", bias=False, dense="classifier")
    return b.finish("inputs")


def resnet9_narrow(
    rng: np.random.Generator, width: int = 16, size: int = 32, channels: int = 3, classes: int = 10
) -> Network:
    """ResNet9 an eighth as wide."""
    return resnet9(rng, width, size, channels, classes)


def _residual(b: Builder, name: str, source: str, width: int) -> str:
    x = b.conv(f"{name}.conv1", source, width, width, then=BN_RELU)
    return b.conv(f"{name}.conv2", x, width, width, then=(*BN_RELU, "add"), add=source)


def vgg_small(
    rng: np.random.Generator, width: int = 32, size: int = 32, channels: int = 3, classes: int = 10
) -> Network:
    """Three pairs of 3x3 convolutions, each followed by max pooling, then a classifier."""
    b = Builder("vgg_small", rng, size)
    x, inputs = "inputs", channels
    for stage, outputs in enumerate((width, 2 * width, 4 * width)):
        for i in (1, 2):
            dense = "first layer" if inputs == channels else ""
            x = b.conv(f"stage{stage + 1}.conv{i}", x, inputs, outputs, then=BN_RELU, dense=dense)
            inputs = outputs
        x = b.pool(f"stage{stage + 1}.pool", x, outputs, "maxpool", 2)
    x = b.pool("global_pool", x, inputs, "avgpool")
    b.linear("head", x, inputs, classes, "sample", dense="classifier")
    return b.finish("inputs")


def vit_tiny(
    rng: np.random.Generator, dim: int = 128, depth: int = 4, heads: int = 4, patch: int = 4, size: int = 32,
    channels: int = 3, classes: int = 10,
) -> Network:  # fmt: skip
    """A vision transformer on patches, positions learned, the mean of all tokens classified."""
    if size % patch:
        raise ShapeError(f"patches of {patch} do not divide images of {size}")
    b = Builder("vit_tiny", rng, size, {"tokens": (size // patch) ** 2})
    positions = b.learned("positions", size // patch, size // patch, dim)
    x = b.conv(
        "patches", "inputs", channels, dim, kernel=patch, stride=patch, padding=0, then=("add",), add=positions,
        bias=True, dense="first layer",
    )  # fmt: skip
    x = b.reshape("flat", x, b.size**2, dim)
    for i in range(depth):
        x = _block(b, f"blocks.{i}", x, dim, heads, "tokens")
    x = b.layernorm("norm", x, dim)
    x = b.reshape("map", x, b.size, b.size, dim)
    x = b.pool("mean", x, dim, "avgpool")
    b.linear("head", x, dim, classes, "sample", dense="classifier")
    return b.finish("inputs")


def language_model(
    rng: np.random.Generator, vocabulary: int = 64, length: int = 64, dim: int = 128, depth: int = 2, heads: int = 4
) -> Network:
    """A decoder-only transformer: tokens [B, length] in, logits of the next token out."""
    b = Builder("language_model", rng, streams={"tokens": length})
    positions = b.learned("positions", length, dim)
    x = b.embedding("embedding", "inputs", vocabulary, dim, add=positions)
    for i in range(depth):
        x = _block(b, f"blocks.{i}", x, dim, heads, "tokens", causal=True)
    x = b.layernorm("norm", x, dim)
    b.linear("head", x, dim, vocabulary, dense="classifier")
    return b.finish("inputs")


def transformer(
    rng: np.random.Generator, vocabulary: int = 128, source: int = 24, target: int = 24, dim: int = 128, depth: int = 2,
    heads: int = 4,
) -> Network:  # fmt: skip
    """An encoder-decoder: source ids [B, source] and target ids [B, target] in, logits of the next target id out.

    `source_mask` [B, source] tells the real source tokens from padding.
    """
    b = Builder("transformer", rng, streams={"source": source, "target": target})
    places = b.learned("encoder.positions", source, dim)
    x = b.embedding("encoder.embedding", "source", vocabulary, dim, "source", add=places)
    for i in range(depth):
        x = _block(b, f"encoder.{i}", x, dim, heads, "source", mask="source_mask")
    memory = b.layernorm("encoder.norm", x, dim, "source")
    places = b.learned("decoder.positions", target, dim)
    y = b.embedding("decoder.embedding", "target", vocabulary, dim, "target", add=places)
    for i in range(depth):
        y = _block(b, f"decoder.{i}", y, dim, heads, "target", causal=True, memory=memory)
    y = b.layernorm("decoder.norm", y, dim, "target")
    b.linear("head", y, dim, vocabulary, "target", dense="classifier")
    return b.finish("source", "target", "source_mask")


def _block(
    b: Builder, name: str, x: str, dim: int, heads: int, tokens: str, causal: bool = False, mask: str = "",
    memory: str = "",
) -> str:  # fmt: skip
    """A pre-norm transformer block; with `memory`, attention over the encoder's output between the two parts."""
    x = _attend(b, f"{name}.attention", x, "", dim, heads, tokens, causal, mask)
    if memory:
        x = _attend(b, f"{name}.cross", x, memory, dim, heads, tokens, False, "source_mask")
    h = b.layernorm(f"{name}.mlp.norm", x, dim, tokens)
    h = b.linear(f"{name}.mlp.up", h, dim, 4 * dim, tokens, then=("gelu",))
    return b.linear(f"{name}.mlp.down", h, 4 * dim, dim, tokens, then=("add",), add=x)


def _attend(
    b: Builder, name: str, x: str, memory: str, dim: int, heads: int, tokens: str, causal: bool, mask: str
) -> str:
    h = b.layernorm(f"{name}.norm", x, dim, tokens)
    keys, stream = (memory, "source") if memory else (h, tokens)
    q = b.linear(f"{name}.query", h, dim, dim, tokens)
    k = b.linear(f"{name}.key", keys, dim, dim, stream)
    v = b.linear(f"{name}.value", keys, dim, dim, stream)
    h = b.attention(f"{name}.product", q, k, v, heads, dim, tokens, stream if memory else "", causal, mask)
    return b.linear(f"{name}.output", h, dim, dim, tokens, then=("add",), add=x)


MODELS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "resnet9": resnet9,
    "resnet9_narrow": resnet9_narrow,
    "vgg_small": vgg_small,
    "vit_tiny": vit_tiny,
    "transformer": transformer,
    "language_model": language_model,
}


def make_model(name: str, rng: np.random.Generator, **sizes: Any) -> Network:
    """The network of that name; `sizes` are the arguments of its function. Unknown names list the nearest."""
    if name not in MODELS:
        raise UnsupportedError(unknown("model", name, MODELS))
    return MODELS[name](rng, **sizes)
