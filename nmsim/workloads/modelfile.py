"""The schema of a model file: a network as a list of layers with their shapes, no expressions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nmsim.specfile import Count, Spec

Pair = Count | Annotated[list[Count], Field(min_length=2, max_length=2)]
Padding = Annotated[int, Field(ge=0)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Elementwise = Literal["relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "add", "mul", "batchnorm", "dropout"]

SAMPLE = "sample"
"""The stream of layers that run once per sample (a classifier head), whatever the sequence length."""


class Layer(Spec):
    """What every layer has: a name, unique in its file, and the vector operations on its output."""

    name: Name = Field(description="name of the layer, unique in the file")
    then: list[Elementwise] = Field(default=[], description="element-wise operations on the output, in order")


class Conv(Layer):
    """A 2-D convolution, weight [out, in / groups, kernel, kernel]."""

    type: Literal["conv"]
    in_channels: Count = Field(alias="in", description="input channels")
    out_channels: Count = Field(alias="out", description="output channels")
    kernel: Pair = Field(description="kernel size, one number or [height, width]")
    input: Pair = Field(description="input height and width, one number or [height, width]")
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: Count = 1
    bias: bool = False


class Linear(Layer):
    """A linear layer, weight [out, in], on every token of a stream; with `experts`, on the tokens routed to each."""

    type: Literal["linear"]
    in_features: Count = Field(alias="in", description="input features")
    out_features: Count = Field(alias="out", description="output features")
    bias: bool = True
    tokens: str = Field(default="tokens", description="the stream of `sequence` it runs on, or `sample`")
    experts: Count = Field(default=1, description="number of experts, each with weights of its own")
    active: Count = Field(default=1, description="experts that each token is routed to")
    tied: bool = Field(default=False, description="weights shared with another layer: no parameters of its own")


class Attention(Layer):
    """The products QK^T and PV with the softmax between them, per head; projections are linear layers."""

    type: Literal["attention"]
    heads: Count
    head_dim: Count
    kv_heads: Count | None = Field(default=None, description="key/value heads (grouped-query); default `heads`")
    tokens: str = Field(default="tokens", description="the stream of the queries")
    keys: str | None = Field(default=None, description="the stream of keys and values; default that of the queries")
    causal: bool = Field(default=False, description="each token sees itself and earlier ones; full product is counted")


class Embedding(Layer):
    """A table look-up, weight [vocabulary, dim]: one row per token."""

    type: Literal["embedding"]
    vocabulary: Count
    dim: Count
    tokens: str = "tokens"
    tied: bool = False


class Norm(Layer):
    """Layer or RMS normalisation over `dim` features of each token."""

    type: Literal["layernorm", "rmsnorm"]
    dim: Count
    tokens: str = "tokens"
    bias: bool = Field(default=True, description="layernorm only: has a shift beside the scale")


class Pool(Layer):
    """Pooling of `channels` maps; `kernel: global` covers the whole map."""

    type: Literal["maxpool", "avgpool"]
    channels: Count
    input: Pair
    kernel: Pair | Literal["global"]
    stride: Pair | None = Field(default=None, description="default: the kernel")
    padding: Padding = 0


class Parameter(Layer):
    """A learned array that no product uses (a class token, position embeddings added to the input)."""

    type: Literal["parameter"]
    elements: Count


class Repeat(Spec):
    """The layers inside, `count` times, named `<name>.<i>.<layer>`."""

    type: Literal["repeat"]
    name: Name
    count: Count
    layers: list[AnyLayer]


AnyLayer = Annotated[
    Conv | Linear | Attention | Embedding | Norm | Pool | Parameter | Repeat, Field(discriminator="type")
]


class Stream(Spec):
    """A sequence of tokens that layers run on."""

    length: Count = Field(description="default tokens per sample")
    fixed: bool = Field(
        default=False, description="set by the architecture (image patches): --seq-len does not change it"
    )
    autoregressive: bool = Field(default=False, description="generated token by token: decode runs one token of it")


class Published(Spec):
    """What the literature says of the model, compared in a test."""

    parameters: Count | None = None
    macs: Count | None = Field(default=None, description="multiply-accumulates of one forward pass at batch 1")
    tolerance: float = Field(default=0.0, ge=0, le=0.05, description="relative, for rounded published figures")
    source: str = Field(min_length=1, description="where the figures stand")
    note: str = Field(default="", description="what the published figure counts")


class ModelFile(Spec):
    """A network: its layers in order of execution."""

    kind: Literal["workload"]
    name: Name
    title: str = Field(default="", description="what it is, in a line")
    source: str = Field(min_length=1, description="where the shapes come from")
    sequence: dict[str, Stream] = {}
    published: list[Published] = []
    keep_dense: dict[str, str] = Field(
        default={}, description="layers that recipes leave dense (name or glob): the reason, as `first layer`"
    )
    layers: list[AnyLayer] = Field(min_length=1)
