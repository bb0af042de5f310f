"""Layers to element-wise and row-wise operations: activations, normalisation, softmax, pooling, look-up."""

from __future__ import annotations

from nmsim.workloads.lower_products import Row
from nmsim.workloads.modelfile import Attention, Embedding, Norm, Pool
from nmsim.workloads.shapes import FlatLayer, Run, area, output, pair
from nmsim.workloads.vector_ops import BACKWARD, FORWARD, INFERENCE, Cost


def _vector(layer: str, kind: str, m: int, n: int, cost: Cost, roles: tuple[str, str, str]) -> Row:
    row: Row = {"layer": layer, "stage": "VECTOR", "kind": kind, "m": m, "n": n, "ops_per_element": cost.ops}
    counts = (("a", cost.a), ("b", cost.b), ("c", cost.c))
    for (letter, per_element), role in zip(counts, roles, strict=True):
        row |= {f"{letter}_elements": per_element * m * n, f"{letter}_role": role if per_element else "none"}
    return row


def _forward(layer: str, kind: str, m: int, n: int, cost: Cost) -> Row:
    return _vector(layer, kind, m, n, cost, ("activation", "activation", "activation"))


def _backward(layer: str, kind: str, m: int, n: int) -> Row:
    return _vector(layer, f"{kind}_backward", m, n, BACKWARD[kind], ("gradient", "activation", "gradient"))


def then_forward(layer: FlatLayer, run: Run, training: bool) -> list[Row]:
    """The operations on the layer's output, in order; in inference those that cost nothing are left out."""
    costs = FORWARD if training else INFERENCE
    m, n = output(layer, run)
    return [_forward(f"{layer.name}.{kind}", kind, m, n, costs[kind]) for kind in layer.then if kind in costs]


def then_backward(layer: FlatLayer, run: Run) -> list[Row]:
    """The gradients of the operations on the layer's output, last first."""
    m, n = output(layer, run)
    return [_backward(f"{layer.name}.{kind}", kind, m, n) for kind in reversed(layer.then)]


def norm_forward(layer: Norm, run: Run) -> Row:
    """Normalisation of each token over its features."""
    return _forward(layer.name, layer.type, *output(layer, run), FORWARD[layer.type])


def norm_backward(layer: Norm, run: Run) -> Row:
    """Gradients of input, scale and shift."""
    return _backward(layer.name, layer.type, *output(layer, run))


def softmax_forward(layer: Attention, run: Run) -> Row:
    """Softmax of every row of the scores: batch · heads · queries rows of one score per key."""
    return _forward(f"{layer.name}.softmax", "softmax", *_scores(layer, run), FORWARD["softmax"])


def softmax_backward(layer: Attention, run: Run) -> Row:
    """Gradient of the scores from that of the probabilities."""
    return _backward(f"{layer.name}.softmax", "softmax", *_scores(layer, run))


def _scores(layer: Attention, run: Run) -> tuple[int, int]:
    return run.tokens(layer.tokens) * layer.heads, run.keys(layer)


def embedding_forward(layer: Embedding, run: Run) -> Row:
    """One row of the table copied for each token."""
    return _forward(layer.name, "embedding", *output(layer, run), FORWARD["embedding"]) | {"a_role": "weight"}


def embedding_backward(layer: Embedding, run: Run) -> Row:
    """Each token's gradient added to its row of the table's gradient."""
    return _backward(layer.name, "embedding", *output(layer, run)) | {"c_role": "weight_gradient"}


def pool_forward(layer: Pool, run: Run, training: bool) -> Row:
    """One window per output element: k - 1 comparisons of k inputs, or k - 1 additions and a product.

    In training, max pooling also writes the place of each maximum, counted as an element.
    """
    m, n = output(layer, run)
    is_max = layer.type == "maxpool"
    row = _forward(layer.name, layer.type, m, n, Cost(_window(layer) - is_max, c=1 + (is_max and training)))
    return row | {"a_elements": _input_elements(layer, run)}


def pool_backward(layer: Pool, run: Run) -> Row:
    """Max: each gradient added at the stored place; average: scaled, then added at the k places of its window."""
    m, n = output(layer, run)
    is_max = layer.type == "maxpool"
    cost = Cost(1 if is_max else _window(layer) + 1, b=int(is_max))
    row = _vector(layer.name, f"{layer.type}_backward", m, n, cost, ("gradient", "activation", "gradient"))
    return row | {"c_elements": _input_elements(layer, run)}


def _window(layer: Pool) -> int:
    return area(pair(layer.input if layer.kernel == "global" else layer.kernel))


def _input_elements(layer: Pool, run: Run) -> int:
    return run.batch * layer.channels * area(pair(layer.input))
