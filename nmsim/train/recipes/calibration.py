"""Calibration: the statistics of the inputs of layers, gathered on some batches, for masks that depend on them."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.oneshot import InputStatistics
from nmsim.sparsity.parts import Choice
from nmsim.sparsity.recipe import Recipe
from nmsim.train.layers.base import Array, Sparsifier
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.linear import Linear
from nmsim.train.network import Network


class Watcher(Sparsifier):
    """Leaves every product dense and keeps the statistics of the input of every linear layer and convolution.

    Inputs of a convolution are its patches [kh, kw, in], of one group of channels.
    """

    def __init__(self, network: Network, recipe: Recipe):
        prior = recipe.soft.prior if isinstance(recipe.soft, Choice) else ""
        hessian = prior == "sparsegpt" or any(prune.mask == "sparsegpt" for prune in recipe.prunes)
        self._convs = {n.name: n.layer for n in network.nodes if isinstance(n.layer, Conv2d) and n.layer.groups == 1}
        linears = {n.name: n.layer for n in network.nodes if isinstance(n.layer, Linear)}
        self.statistics = {
            name: InputStatistics(int(np.prod(layer.weight.value.shape[:-1])), hessian)
            for name, layer in {**linears, **self._convs}.items()
        }

    def see_input(self, layer: str, x: Array) -> None:
        """Add the input to the statistics of the layer."""
        if layer in self.statistics:
            conv = self._convs.get(layer)
            self.statistics[layer].add(x if conv is None else _patches(x, conv))


def _patches(x: Array, conv: Conv2d) -> Array:
    """The patches [samples, positions, kh * kw * in] that the convolution multiplies, of x [B, H, W, in]."""
    kh, kw = conv.weight.value.shape[:2]
    p, s = conv.padding, conv.stride
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))[:, ::s, ::s]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(len(x), -1, kh * kw * x.shape[-1])
