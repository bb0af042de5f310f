"""Sizes of layers: outputs, weights, parameters and how often a layer runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from nmsim.errors import ShapeError, unknown
from nmsim.workloads.modelfile import SAMPLE, Attention, Conv, Embedding, Linear, Norm, Parameter, Pool

FlatLayer = Conv | Linear | Attention | Embedding | Norm | Pool | Parameter


def plural(count: int, noun: str) -> str:
    """`1 channel`, `2 channels`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


@dataclass(frozen=True)
class Run:
    """How a model is run: samples per step, tokens per sample of each stream, and whether it decodes one token.

    In decode every autoregressive stream has one token per sample, whose attention sees `context` cached tokens
    (itself included); layers of other streams ran before and are left out.
    """

    batch: int = 1
    streams: Mapping[str, int] = field(default_factory=dict)
    autoregressive: frozenset[str] = frozenset()
    decode: bool = False
    context: int = 1

    def length(self, stream: str) -> int:
        """Tokens of a stream per sample that go through its layers; 0 where decode leaves the stream out."""
        if stream == SAMPLE:
            return 1
        if stream not in self.streams:
            raise ShapeError(unknown("stream", stream, [*self.streams, SAMPLE]))
        if self.decode:
            return int(stream in self.autoregressive)
        return self.streams[stream]

    def tokens(self, stream: str) -> int:
        """Tokens of a stream in the whole batch."""
        return self.batch * self.length(stream)

    def keys(self, layer: Attention) -> int:
        """Keys per sample that a query of this attention sees: cached ones in decode."""
        stream = layer.keys or layer.tokens
        self.length(stream)
        if self.decode and stream in self.autoregressive:
            return self.context
        return 1 if stream == SAMPLE else self.streams[stream]

    def executes(self, layer: FlatLayer) -> bool:
        """Whether the layer runs at all: decode leaves out convolutions, pools and other streams."""
        if isinstance(layer, Conv | Pool | Parameter):
            return not self.decode
        return self.length(layer.tokens) > 0


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a size written as one number or as two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def output_size(layer: Conv | Pool) -> tuple[int, int]:
    """Height and width of the output, floor((I + 2p - d(k - 1) - 1) / s) + 1; raises ShapeError if it has none."""
    if isinstance(layer, Conv):
        kernel, stride, dilation = pair(layer.kernel), pair(layer.stride), pair(layer.dilation)
    elif layer.kernel == "global":
        return 1, 1
    else:
        kernel, dilation = pair(layer.kernel), (1, 1)
        stride = pair(layer.stride or layer.kernel)
    sizes = zip(pair(layer.input), pair(layer.padding), kernel, dilation, stride, strict=True)
    out = [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, p, k, d, s in sizes]
    if min(out) < 1:
        reach = " x ".join(str(d * (k - 1) + 1) for k, d in zip(kernel, dilation, strict=True))
        padded = " x ".join(str(i + 2 * p) for i, p in zip(pair(layer.input), pair(layer.padding), strict=True))
        raise ShapeError(f"layer {layer.name!r}: a kernel of {reach} does not fit a padded input of {padded}")
    return out[0], out[1]


def output(layer: FlatLayer, run: Run) -> tuple[int, int]:
    """Rows and width of what the layer writes: positions or tokens of the batch, and channels or features."""
    match layer:
        case Conv() | Pool():
            return run.batch * area(output_size(layer)), width(layer)
        case Linear():
            return run.tokens(layer.tokens) * layer.active, width(layer)
        case Parameter():
            return run.batch, width(layer)
    return run.tokens(layer.tokens), width(layer)


def width(layer: FlatLayer) -> int:
    """Channels or features of the output."""
    match layer:
        case Conv():
            return layer.out_channels
        case Linear():
            return layer.out_features
        case Attention():
            return layer.heads * layer.head_dim
        case Pool():
            return layer.channels
        case Parameter():
            return layer.elements
    return layer.dim


def area(size: tuple[int, int]) -> int:
    """Height times width."""
    return size[0] * size[1]


@dataclass(frozen=True)
class Weight:
    """The weight of a layer: `copies` (groups of a convolution, experts) of [outputs, inputs, *kernel]."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    experts: int = 1

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return prod(self.kernel)

    @property
    def elements(self) -> int:
        """Elements of all copies."""
        return self.groups * self.experts * self.outputs * self.inputs * self.taps

    def channels(self, direction: str) -> int:
        """Channels, per group, along a direction (`in` or `out`): what the groups of a pattern divide."""
        return self.inputs if direction == "in" else self.outputs

    def matrix(self, direction: str) -> tuple[int, int]:
        """Rows and their length, with rows along a direction at all kernel positions: m x n of a mask search."""
        length = self.channels(direction) * self.taps
        return self.elements // length, length


def conv_weight(layer: Conv) -> Weight:
    """The weight of a convolution; raises ShapeError if its groups do not divide its channels."""
    groups = layer.groups
    for what, channels in (("in", layer.in_channels), ("out", layer.out_channels)):
        if channels % groups:
            raise ShapeError(f"layer {layer.name!r}: {groups} groups do not divide {channels} {what}put channels")
    return Weight(layer.in_channels // groups, layer.out_channels // groups, pair(layer.kernel), groups)


def weight_of(layer: FlatLayer) -> Weight | None:
    """The weight that the layer's products multiply by, None where there is none."""
    if isinstance(layer, Linear):
        return Weight(layer.in_features, layer.out_features, experts=layer.experts)
    return conv_weight(layer) if isinstance(layer, Conv) else None


def parameters(layer: FlatLayer) -> int:
    """Learned parameters of the layer: weights, bias, scales and shifts, batch normalisation of its output included."""
    return _own_parameters(layer) + 2 * layer.then.count("batchnorm") * width(layer)


def _own_parameters(layer: FlatLayer) -> int:
    match layer:
        case Conv():
            return conv_weight(layer).elements + layer.bias * layer.out_channels
        case Linear():
            per_expert = (layer.in_features + layer.bias) * layer.out_features
            return 0 if layer.tied else layer.experts * per_expert
        case Embedding():
            return 0 if layer.tied else layer.vocabulary * layer.dim
        case Norm():
            return layer.dim * (1 + (layer.type == "layernorm" and layer.bias))
        case Parameter():
            return layer.elements
    return 0
