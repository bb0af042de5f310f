"""A network of the trainer built again in PyTorch: the same nodes and weights, maps as channels_last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nmsim.train.layers.attention import Attention
from nmsim.train.layers.base import Layer, Parameter
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.embedding import Embedding, Learned
from nmsim.train.layers.linear import Linear
from nmsim.train.layers.norm import BatchNorm, LayerNorm
from nmsim.train.layers.pointwise import GELU, Add, ReLU
from nmsim.train.layers.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from nmsim.train.layers.reshape import Reshape
from nmsim.train.network import Network

Function = Callable[..., Any]


class Mirror:
    """The forward pass of a network as functions of PyTorch; `groups` holds its leaves for an optimizer."""

    def __init__(self, network: Network):
        import torch

        self.torch, self.network = torch, network
        self.leaves: dict[bool, list[Any]] = {True: [], False: []}
        self.nodes = [(node.name, node.inputs, self._function(node.layer)) for node in network.nodes]

    def __call__(self, inputs: Mapping[str, Any]) -> Any:
        """The output, with a graph for its gradient."""
        values = dict(inputs)
        for name, sources, function in self.nodes:
            values[name] = function(*(values[source] for source in sources))
        return values[self.nodes[-1][0]]

    def inputs(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The batch as tensors."""
        return {name: self._maps(array) if array.ndim == 4 else self.torch.from_numpy(array)
                for name, array in arrays.items()}  # fmt: skip

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups: weight decay for those that decay only."""
        return [
            {"params": leaves, "weight_decay": weight_decay if decays else 0.0}
            for decays, leaves in self.leaves.items() if leaves
        ]  # fmt: skip

    def _maps(self, array: np.ndarray) -> Any:
        """[..., H, W, C] seen as [..., C, H, W]: for a batch this is channels_last."""
        return self.torch.from_numpy(array.copy()).movedim(-1, -3)

    def _leaf(self, parameter: Parameter, tensor: Any = None) -> Any:
        tensor = self.torch.from_numpy(parameter.value.copy()) if tensor is None else tensor
        self.leaves[parameter.decays].append(tensor.requires_grad_())
        return tensor

    def _function(self, layer: Layer) -> Function:
        f = self.torch.nn.functional
        if isinstance(layer, Linear):
            w = self._leaf(layer.weight, self.torch.from_numpy(layer.weight.value.T.copy()))
            b = self._leaf(layer.bias) if layer.bias else None
            return lambda x: f.linear(x, w, b)
        if isinstance(layer, Conv2d):
            return self._convolution(layer)
        if isinstance(layer, BatchNorm):
            scale, shift = self._leaf(layer.scale), self._leaf(layer.shift)
            mean, variance = (self.torch.from_numpy(a.copy()) for a in (layer.mean, layer.variance))
            return lambda x: f.batch_norm(x, mean, variance, scale, shift, True, layer.momentum, layer.eps)
        if isinstance(layer, LayerNorm):
            scale, shift = self._leaf(layer.scale), self._leaf(layer.shift)
            return lambda x: f.layer_norm(x, scale.shape, scale, shift, layer.eps)
        if isinstance(layer, Embedding):
            w = self._leaf(layer.weight)
            return lambda ids: f.embedding(ids, w)
        if isinstance(layer, Learned):
            value = layer.value.value
            leaf = self._leaf(layer.value, self._maps(value) if value.ndim == 3 else None)
            return lambda: leaf
        if isinstance(layer, Attention):
            return self._attention(layer)
        return self._plain(layer)

    def _convolution(self, layer: Conv2d) -> Function:
        f, channels_last = self.torch.nn.functional, self.torch.channels_last
        weight = self.torch.from_numpy(layer.weight.value).permute(3, 2, 0, 1)
        w = self._leaf(layer.weight, weight.contiguous(memory_format=channels_last).clone())
        b = self._leaf(layer.bias) if layer.bias else None
        return lambda x: f.conv2d(x, w, b, layer.stride, layer.padding, 1, layer.groups)

    def _attention(self, layer: Attention) -> Function:
        def split(x: Any) -> Any:
            return x.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

        def attention(q: Any, k: Any, v: Any, keep: Any = None) -> Any:
            mask = None if keep is None else keep[:, None, None]
            y = self.torch.nn.functional.scaled_dot_product_attention(
                split(q), split(k), split(v), mask, is_causal=layer.causal
            )
            return y.transpose(1, 2).flatten(2)

        return attention

    def _plain(self, layer: Layer) -> Function:
        """Layers without parameters."""
        f = self.torch.nn.functional
        if isinstance(layer, Reshape):
            shape = layer.shape
            if len(shape) == 3:
                return lambda x: x.unflatten(1, shape[:2]).permute(0, 3, 1, 2)
            return lambda x: x.permute(0, 2, 3, 1).flatten(1, 2)
        if isinstance(layer, MaxPool):
            return lambda x: f.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        if isinstance(layer, AvgPool):
            return lambda x: f.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)
        functions: dict[type[Layer], Function] = {
            ReLU: f.relu,
            GELU: lambda x: f.gelu(x, approximate="tanh"),
            Add: lambda a, b: a + b,
            GlobalMaxPool: lambda x: f.adaptive_max_pool2d(x, 1).flatten(1),
            GlobalAvgPool: lambda x: x.mean((2, 3)),
        }
        return functions[type(layer)]
