"""Building networks: each call adds a layer that trains and the same layer's entry for the planner."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.layers.attention import Attention
from nmsim.train.layers.base import Layer
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.embedding import Embedding, Learned
from nmsim.train.layers.linear import Linear
from nmsim.train.layers.norm import BatchNorm, LayerNorm
from nmsim.train.layers.pointwise import GELU, Add, ReLU
from nmsim.train.layers.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from nmsim.train.layers.reshape import Reshape
from nmsim.train.network import Network, Node
from nmsim.workloads import modelfile
from nmsim.workloads.modelfile import ModelFile, Stream


class Builder:
    """Collects layers in order of execution; every method returns the name of the node that holds its output.

    `size` is the height and width of image inputs, followed through convolutions and pools.
    """

    def __init__(self, name: str, rng: np.random.Generator, size: int = 0, streams: dict[str, int] | None = None):
        self.name, self.rng, self.size, self.streams = name, rng, size, streams or {}
        self._nodes: list[Node] = []
        self._layers: list[Any] = []
        self._dense: dict[str, str] = {}

    def finish(self, *inputs: str) -> Network:
        """The network; `inputs` are the names of what it takes."""
        file = ModelFile(
            kind="workload", name=self.name, source="nmsim.train.models", layers=self._layers, keep_dense=self._dense,
            sequence={name: Stream(length=length, fixed=True) for name, length in self.streams.items()},
        )  # fmt: skip
        return Network(self.name, tuple(self._nodes), inputs, file)

    def conv(
        self, name: str, source: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1,
        padding: int | None = None, then: tuple[str, ...] = (), add: str = "", bias: bool = False, dense: str = "",
    ) -> str:  # fmt: skip
        """A convolution of `source`, padded to keep the size unless told otherwise, and what follows it."""
        padding = kernel // 2 if padding is None else padding
        layer = Conv2d(name, inputs, outputs, kernel, self.rng, stride, padding, bias=bias)
        self._plan(
            modelfile.Conv, dense, type="conv", name=name, in_channels=inputs, out_channels=outputs, kernel=kernel,
            input=self.size, stride=stride, padding=padding, bias=bias, then=list(then),
        )  # fmt: skip
        self._shrink(name, (self.size + 2 * padding - kernel) // stride + 1)
        return self._then(self._node(layer, source), then, add, outputs)

    def linear(
        self, name: str, source: str, inputs: int, outputs: int, tokens: str = "tokens",
        then: tuple[str, ...] = (), add: str = "", bias: bool = True, gain: float = 1.0, dense: str = "",
    ) -> str:  # fmt: skip
        """A linear layer on every token of a stream (`sample`: once per sample), and what follows it."""
        self._plan(
            modelfile.Linear, dense, type="linear", name=name, in_features=inputs, out_features=outputs, bias=bias,
            tokens=tokens, then=list(then),
        )  # fmt: skip
        layer = Linear(name, inputs, outputs, self.rng, bias, gain)
        return self._then(self._node(layer, source), then, add, outputs)

    def attention(
        self, name: str, query: str, key: str, value: str, heads: int, dim: int,
        tokens: str = "tokens", keys: str = "", causal: bool = False, mask: str = "",
    ) -> str:  # fmt: skip
        """Scaled dot-product attention of queries over keys and values [batch, tokens, dim]; `mask` input or none."""
        self._plan(
            modelfile.Attention, type="attention", name=name, heads=heads, head_dim=dim // heads, tokens=tokens,
            keys=keys or None, causal=causal,
        )  # fmt: skip
        sources = (query, key, value, mask) if mask else (query, key, value)
        return self._node(Attention(name, heads, causal), *sources)

    def layernorm(self, name: str, source: str, dim: int, tokens: str = "tokens") -> str:
        """Layer normalisation over the features of each token."""
        self._plan(modelfile.Norm, type="layernorm", name=name, dim=dim, tokens=tokens)
        return self._node(LayerNorm(name, dim), source)

    def embedding(
        self, name: str, source: str, vocabulary: int, dim: int, tokens: str = "tokens", add: str = ""
    ) -> str:
        """A look-up of token ids, with learned positions added if `add` names them."""
        then = ("add",) if add else ()
        self._plan(
            modelfile.Embedding, type="embedding", name=name, vocabulary=vocabulary, dim=dim, tokens=tokens,
            then=list(then),
        )  # fmt: skip
        return self._then(self._node(Embedding(name, vocabulary, dim, self.rng), source), then, add, dim)

    def learned(self, name: str, *shape: int) -> str:
        """A learned array, the same for every sample."""
        self._plan(modelfile.Parameter, type="parameter", name=name, elements=int(np.prod(shape)))
        return self._node(Learned(name, shape, self.rng))

    def reshape(self, name: str, source: str, *shape: int) -> str:
        """The same elements of each sample in another shape; no operation for the planner."""
        return self._node(Reshape(name, *shape), source)

    def pool(self, name: str, source: str, channels: int, kind: str, kernel: int = 0) -> str:
        """`maxpool` or `avgpool` with windows of `kernel` (0: the whole map)."""
        self._plan(modelfile.Pool, type=kind, name=name, channels=channels, input=self.size, kernel=kernel or "global")
        if not kernel:
            return self._node((GlobalMaxPool if kind == "maxpool" else GlobalAvgPool)(name), source)
        self._shrink(name, self.size // kernel)
        return self._node((MaxPool if kind == "maxpool" else AvgPool)(name, kernel), source)

    def _shrink(self, name: str, size: int) -> None:
        if size < 1:
            raise ShapeError(f"layer {name!r}: maps of {self.size} x {self.size} are too small; take larger images")
        self.size = size

    def _plan(self, kind: Any, dense: str = "", **fields: Any) -> None:
        self._layers.append(kind(**fields))
        if dense:
            self._dense[fields["name"]] = dense

    def _node(self, layer: Layer, *sources: str) -> str:
        self._nodes.append(Node(layer, sources))
        return layer.name

    def _then(self, source: str, then: tuple[str, ...], add: str, channels: int) -> str:
        name = source
        for kind in then:
            full = f"{name}.{kind}"
            layer: Layer = {
                "batchnorm": lambda full=full: BatchNorm(full, channels),
                "relu": lambda full=full: ReLU(full),
                "gelu": lambda full=full: GELU(full),
                "add": lambda full=full: Add(full),
            }[kind]()
            source = self._node(layer, source, add) if kind == "add" else self._node(layer, source)
        return source
