"""Bringing an energy to a technology node.

Between two nodes at which an action is known the logarithm of its energy is linear in that of the feature size, so
that E falls as a power of it whose exponent each action has of its own; beyond the outermost node its energy is kept,
and the table says so. An action known at one node only is scaled with the mean exponent of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

REACH = 3.0
"""How many times finer or coarser than the outermost node known a node may be and still take its energies."""


def log_interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """y at `x` on straight lines through (log xs, log ys), xs ascending; constant beyond the ends."""
    x = min(max(x, xs[0]), xs[-1])
    if x in xs:
        return ys[list(xs).index(x)]  # as cited, to the last digit
    return exp(float(np.interp(log(x), np.log(xs), np.log(ys))))


def at_node(node_m: float, known: Sequence[tuple[float, float]], exponent: float) -> float:
    """The energy at `node_m` (metres) of an action with the (node, energy) pairs `known`, of which there is one."""
    pairs = sorted(known)
    if len(pairs) == 1:
        node, energy = pairs[0]
        return energy * (node_m / node) ** exponent
    nodes, energies = zip(*pairs, strict=True)
    return log_interpolated(node_m, nodes, energies)
