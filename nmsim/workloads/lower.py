"""Layers to ops: which rows a layer has in each direction, in order of execution."""

from __future__ import annotations

from nmsim.workloads import lower_products as products
from nmsim.workloads import lower_vectors as vectors
from nmsim.workloads.lower_products import Row
from nmsim.workloads.modelfile import Attention, Conv, Embedding, Linear, Norm, Pool
from nmsim.workloads.shapes import FlatLayer, Run


def forward_rows(layer: FlatLayer, run: Run, training: bool) -> list[Row]:
    """The forward pass of a layer; nothing if this run leaves it out.

    A bias is added as the product is written out, and costs nothing of its own.
    """
    if not run.executes(layer):
        return []
    return [*_forward(layer, run, training), *vectors.then_forward(layer, run, training)]


def _forward(layer: FlatLayer, run: Run, training: bool) -> list[Row]:
    match layer:
        case Linear():
            return [products.linear_ff(layer, run)]
        case Conv():
            return [products.conv_ff(layer, run)]
        case Attention():
            scores, values = products.attention_ff(layer, run)
            return [scores, vectors.softmax_forward(layer, run), values]
        case Norm():
            return [vectors.norm_forward(layer, run)]
        case Embedding():
            return [vectors.embedding_forward(layer, run)]
        case Pool():
            return [vectors.pool_forward(layer, run, training)]
    return []


def backward_rows(layer: FlatLayer, run: Run, input_gradient: bool) -> list[Row]:
    """The backward pass of a layer: operations on its output, input gradient (if wanted), weight gradient.

    A bias gradient, the column sums of dy, is taken as WU reads dy, and costs nothing of its own.
    """
    return [*vectors.then_backward(layer, run), *_backward(layer, run, input_gradient)]


def _backward(layer: FlatLayer, run: Run, input_gradient: bool) -> list[Row]:
    match layer:
        case Linear():
            wu = products.linear_wu(layer, run)
            return [products.linear_bp(layer, run), wu] if input_gradient else [wu]
        case Conv():
            wu = products.conv_wu(layer, run)
            return [products.conv_bp(layer, run), wu] if input_gradient else [wu]
        case Norm():
            return [vectors.norm_backward(layer, run)]
        case Embedding():
            return [vectors.embedding_backward(layer, run)]
    if not input_gradient:
        return []
    if isinstance(layer, Attention):
        softmax = vectors.softmax_backward(layer, run)
        return [*products.attention_pv_bp(layer, run), softmax, *products.attention_qk_bp(layer, run)]
    return [vectors.pool_backward(layer, run)] if isinstance(layer, Pool) else []
