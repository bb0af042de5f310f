"""What element-wise and row-wise operations cost: arithmetic, reads and writes per element.

Counts are those of the algorithm stated beside each entry, with rows of normalisations and softmax held on chip
between their passes, and vectors of one number per channel (scale, shift, statistics) not counted. An addition, a
multiplication, a comparison, a division, an exponential, a hyperbolic tangent and a square root count one each.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Per element of the operation: arithmetic `ops`, elements read of operands a and b, elements written of c.

    Forward, a and b are activations. Backward, a and c are gradients and b is what the forward pass saved.
    """

    ops: float
    a: int = 1
    b: int = 0
    c: int = 1


FORWARD: dict[str, Cost] = {
    "relu": Cost(1),  # max(x, 0)
    "relu6": Cost(2),  # min(max(x, 0), 6)
    # x/2·(1 + tanh(c·(x + a·x³))): x² x³ ·a +x ·c tanh +1 ·x /2
    "gelu": Cost(9),
    "silu": Cost(4),  # x / (1 + exp(-x)): negate, exp, add, divide
    "sigmoid": Cost(4),  # 1 / (1 + exp(-x))
    "tanh": Cost(1),
    "add": Cost(1, b=1),
    "mul": Cost(1, b=1),
    # pass 1 reads x: Σx, Σx² (add, multiply, add); pass 2 reads x again: x·scale + shift (multiply, add)
    "batchnorm": Cost(5, a=2),
    # draw, compare, scale; the mask is drawn again in the backward pass from the same seed, not stored
    "dropout": Cost(3),
    # mean (add), x - mean, its square and sum (subtract, multiply, add), · 1/σ, · scale, + shift
    "layernorm": Cost(7),
    # square and sum (multiply, add), · 1/rms, · scale
    "rmsnorm": Cost(4),
    # · 1/√d, running max, subtract, exp, sum, divide
    "softmax": Cost(6),
    "embedding": Cost(0),  # a row of the table copied per token
}
"""Forward pass of training, by kind."""

INFERENCE: dict[str, Cost] = {
    **{kind: cost for kind, cost in FORWARD.items() if kind != "dropout"},
    "batchnorm": Cost(2),  # statistics are constants: x·scale + shift
}
"""Forward pass of inference, by kind; what is absent (dropout) costs nothing."""

BACKWARD: dict[str, Cost] = {
    "relu": Cost(1, b=1),  # dy where y > 0
    "relu6": Cost(2, b=1),  # dy where 0 < y < 6
    # with u = c·(x + a·x³), t = tanh u: dy·((1 + t)/2 + x/2·(1 - t²)·c·(1 + 3a·x²))
    # u: x² x³ ·a +x ·c = 5; tanh 1; (1 + t)/2: 2; 1 - t²: 2; c·(1 + 3a·x²): 3; x/2: 1; two products, sum, ·dy: 4
    "gelu": Cost(18, b=1),
    # with s = 1/(1 + exp(-x)) (4): dy·s·(1 + x·(1 - s)) (5)
    "silu": Cost(9, b=1),
    "sigmoid": Cost(3, b=1),  # dy·y·(1 - y)
    "tanh": Cost(3, b=1),  # dy·(1 - y²)
    "add": Cost(1, a=2),  # the gradients of the two branches join where the branches parted
    "mul": Cost(2, b=2, c=2),  # dy·b and dy·a
    # pass 1 reads dy, x: Σdy (1), x̂ = (x - mean)·1/σ (2), Σdy·x̂ (2); pass 2 reads both: dx = p·dy + q·x + r (4)
    "batchnorm": Cost(9, a=2, b=2),
    "dropout": Cost(3),  # draw, compare, scale
    # x̂ 2, dγ: Σdy·x̂ 2, dβ: Σdy 1, g = dy·γ 1, Σg 1, Σg·x̂ 2, dx = 1/σ·(g - p - q·x̂) 4
    "layernorm": Cost(13, b=1),
    # x̂ 1, dγ 2, g 1, Σg·x̂ 2, dx = 1/rms·(g - q·x̂) 3
    "rmsnorm": Cost(9, b=1),
    # Σp·dp (2), p·(dp - Σ) (2), · 1/√d
    "softmax": Cost(5, b=1),
    "embedding": Cost(1),  # each token's gradient added to its row of the table's gradient
}
"""Backward pass, by the kind of the forward operation (the op is called `<kind>_backward`)."""
