"""Layers to matrix products: forward, input gradient and weight gradient of each layer type that multiplies."""

from __future__ import annotations

from typing import Any

from nmsim.errors import ShapeError
from nmsim.workloads.modelfile import Attention, Conv, Linear
from nmsim.workloads.shapes import Run, area, conv_weight, output_size, pair

Row = dict[str, Any]
"""The values of one op, as `WorkloadBuilder.add` takes them."""

# Roles of A, B and C by stage, for layers with a weight.
_ROLES = {
    "FF": ("activation", "weight", "activation"),
    "BP": ("gradient", "weight", "gradient"),
    "WU": ("activation", "gradient", "weight_gradient"),
}


def _product(layer: str, stage: str, mnk: tuple[int, int, int], *, count: int = 1, **more: Any) -> Row:
    m, n, k = mnk
    a, b, c = _ROLES[stage]
    row: Row = {"layer": layer, "stage": stage, "kind": "gemm", "m": m, "n": n, "k": k, "count": count}
    sizes = {"a_elements": m * k * count, "b_elements": k * n * count, "c_elements": m * n * count}
    return row | sizes | {"a_role": a, "b_role": b, "c_role": c} | more


def linear_ff(layer: Linear, run: Run) -> Row:
    """y[T, out] = x[T, in] · W; with experts, one product for each that has tokens."""
    assigned, experts, tokens = _routing(layer, run)
    mnk = tokens, layer.out_features, layer.in_features
    sizes = {"a_elements": assigned * layer.in_features, "c_elements": assigned * layer.out_features}
    return _product(layer.name, "FF", mnk, count=experts, **sizes)


def linear_bp(layer: Linear, run: Run) -> Row:
    """dx[T, in] = dy[T, out] · Wᵀ."""
    assigned, experts, tokens = _routing(layer, run)
    mnk = tokens, layer.in_features, layer.out_features
    sizes = {"a_elements": assigned * layer.out_features, "c_elements": assigned * layer.in_features}
    return _product(layer.name, "BP", mnk, count=experts, **sizes)


def linear_wu(layer: Linear, run: Run) -> Row:
    """dW[in, out] = xᵀ[in, T] · dy[T, out]."""
    assigned, experts, tokens = _routing(layer, run)
    mnk = layer.in_features, layer.out_features, tokens
    sizes = {"a_elements": assigned * layer.in_features, "b_elements": assigned * layer.out_features}
    return _product(layer.name, "WU", mnk, count=experts, **sizes)


def _routing(layer: Linear, run: Run) -> tuple[int, int, int]:
    """Assignments of tokens to experts, experts that get any, tokens of each (rounded up) when spread evenly."""
    assigned = run.tokens(layer.tokens) * layer.active
    experts = min(routed_experts(layer), assigned)
    return assigned, experts, -(-assigned // experts)


def routed_experts(layer: Linear) -> int:
    """Experts of the layer; raises ShapeError if a token is routed to more than there are."""
    if layer.active > layer.experts:
        raise ShapeError(f"layer {layer.name!r}: {layer.active} active experts, but it has {layer.experts}")
    return layer.experts


def conv_ff(layer: Conv, run: Run) -> Row:
    """y[B·Ho·Wo, Co/g] = im2col(x)[B·Ho·Wo, Ci/g·kh·kw] · W for each of g groups; x is counted once, not im2col."""
    positions, weight = run.batch * area(output_size(layer)), conv_weight(layer)
    mnk = positions, weight.outputs, weight.inputs * weight.taps
    return _product(layer.name, "FF", mnk, count=layer.groups, **_maps(layer), a_elements=_input_elements(layer, run))


def conv_bp(layer: Conv, run: Run) -> Row:
    """dx = im2col(dy)[·, Co/g·kh·kw] · Wᵀ, with as many multiply-accumulates as the forward product.

    m = B·Ho·Wo counts useful work: each element of dy meets each weight once, neither the zeros that a stride
    inserts into dy nor those of padding counted. `m_inserted` = B·Hi·Wi is what a machine computes that keeps the
    inserted zeros of a strided convolution.
    """
    positions, weight = run.batch * area(output_size(layer)), conv_weight(layer)
    strided = max(pair(layer.stride)) > 1
    return _product(
        layer.name, "BP", (positions, weight.inputs, weight.outputs * weight.taps), count=layer.groups,
        **_maps(layer), m_inserted=max(positions, run.batch * area(pair(layer.input))) if strided else positions,
        a_elements=positions * layer.out_channels, c_elements=_input_elements(layer, run),
    )  # fmt: skip


def conv_wu(layer: Conv, run: Run) -> Row:
    """dW[Ci/g·kh·kw, Co/g] = im2col(x)ᵀ · dy, reduced over the B·Ho·Wo output positions."""
    positions, weight = run.batch * area(output_size(layer)), conv_weight(layer)
    mnk = weight.inputs * weight.taps, weight.outputs, positions
    return _product(layer.name, "WU", mnk, count=layer.groups, **_maps(layer), a_elements=_input_elements(layer, run))


def _maps(layer: Conv) -> Row:
    """The columns of the op table that only convolutions have."""
    (kernel_h, kernel_w), dilation = pair(layer.kernel), pair(layer.dilation)
    slides = kernel_h == kernel_w and {*dilation, *pair(layer.stride)} == {1}
    height, width = output_size(layer) if slides else (0, 0)
    reach = (d * (size - 1) for d, size in zip(dilation, (kernel_h, kernel_w), strict=True))
    overhang = max(p - r for p, r in zip(pair(layer.padding), reach, strict=True))
    return {"taps": kernel_h * kernel_w, "map_h": height, "map_w": width, "overhang": max(overhang, 0)}


def _input_elements(layer: Conv, run: Run) -> int:
    return run.batch * layer.in_channels * area(pair(layer.input))


def attention_ff(layer: Attention, run: Run) -> tuple[Row, Row]:
    """S = Q·Kᵀ and O = P·V for each key/value head, the query heads that share it stacked as rows."""
    queries, keys, count = _heads(layer, run)
    plain: Row = {"b_role": "activation", "count": count}
    scores = _product(f"{layer.name}.qk", "FF", (queries, keys, layer.head_dim), **plain)
    return scores, _product(f"{layer.name}.pv", "FF", (queries, layer.head_dim, keys), **plain)


def attention_pv_bp(layer: Attention, run: Run) -> tuple[Row, Row]:
    """dP = dO·Vᵀ and dV = Pᵀ·dO."""
    queries, keys, count = _heads(layer, run)
    name = f"{layer.name}.pv"
    to_scores = _product(name, "BP", (queries, keys, layer.head_dim), count=count, b_role="activation")
    roles = {"a_role": "activation", "b_role": "gradient"}
    return to_scores, _product(name, "BP", (keys, layer.head_dim, queries), count=count, **roles)


def attention_qk_bp(layer: Attention, run: Run) -> tuple[Row, Row]:
    """dQ = dS·K and dK = dSᵀ·Q."""
    queries, keys, count = _heads(layer, run)
    plain: Row = {"b_role": "activation", "count": count}
    to_queries = _product(f"{layer.name}.qk", "BP", (queries, layer.head_dim, keys), **plain)
    return to_queries, _product(f"{layer.name}.qk", "BP", (keys, layer.head_dim, queries), **plain)


def _heads(layer: Attention, run: Run) -> tuple[int, int, int]:
    """Query rows of one key/value head, keys, and the number of independent products."""
    kv_heads = key_value_heads(layer)
    return run.length(layer.tokens) * (layer.heads // kv_heads), run.keys(layer), run.batch * kv_heads


def key_value_heads(layer: Attention) -> int:
    """Key/value heads; raises ShapeError if they do not divide the heads."""
    kv_heads = layer.kv_heads or layer.heads
    if layer.heads % kv_heads:
        raise ShapeError(f"layer {layer.name!r}: {kv_heads} key/value heads do not divide {layer.heads} heads")
    return kv_heads
