"""What finding masks costs: the arithmetic of each search per element, and the rows of what it needs besides.

An element is one of the m x n that a search reads, in rows of n along the groups. Top-n of a group M is N M - N(N+1)/2
comparisons (partial selection), which engines count themselves, on a unit for it where the machine has one: rows of a
plain search by magnitude carry no arithmetic of their own. Every other search is arithmetic on the vector lanes, the
Hessian of SparseGPT included, which a machine could also multiply on its matrix unit.
"""

from __future__ import annotations

from math import ceil, comb, factorial, log2, prod

from nmsim.sparsity.parts import Choice, Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.workloads.lower_products import Row

CALIBRATION_SAMPLES = 512
"""Samples of the training split by whose inputs one-shot masks are found."""

DRAW_OPS = 1  # one random number
SCALE_OPS = 1  # a score from a weight: one multiplication
SELECT_OPS = 3.4  # quickselect of the median of many: 2 (1 + ln 2) comparisons (Knuth, TAOCP 3, 5.2.2)
SWEEPS = 2  # assumed sweeps of exchanges over a tile, the last of which finds none
CANDIDATES = 100  # orders that Bi-Mask draws (github.com/zyxxmu/Bi-Mask README)
ROUNDS = 1.6  # times M that every pair of stripes is looked at until no split gains: 1.0 to 1.9 on normal weights
EXACT_TILES = 4
"""Tiles up to which the best transposable mask is found as fast as a good one."""
EXHAUSTIVE_GROUPS = 4
"""Groups up to which every split of two stripes of channels is looked at, as published for 2:4; for larger ones,
exchanges of channels: of the 6435 splits of 2:8 they are a hundredth, and gain nine tenths as much."""


def top_n(pattern: Pattern, n: int) -> float:
    """Comparisons per element of a search by size in rows of n: N - N(N+1) / 2M; 1 with a known threshold."""
    if pattern.kind == "unstructured":
        return 1.0
    group = n if pattern.kind == "fan_in" else pattern.m
    keep = min(pattern.n, group)
    return keep - keep * (keep + 1) / (2 * group)


def search_ops(prune: Prune, recipe: Recipe, pattern: Pattern, m: int, n: int) -> float:
    """Arithmetic per element of one search by the method of `prune`; 0 for a plain top-n by magnitude.

    - learned choice: C - 1 comparisons of logits per group, C = binomial(M, N);
    - random: a number drawn, then top-n;
    - transposable: see `transposable`; ASP's order of channels: `channel_order`, then top-n;
    - Bi-Mask (`permuted`): W * mask, then top-n (its order: `order_row`);
    - Wanda: |w| norm, then top-n; SparseGPT: |w| / U_ii, top-n, w / U_ii, and for each of n inputs the update of the
      later ones, (n - 1) / 2 multiply-adds on average: n - 1.
    """
    if isinstance(recipe.soft, Choice):
        return (comb(pattern.m, pattern.n) - 1) / pattern.m
    search = top_n(pattern, n)
    match prune.mask:
        case "random":
            return DRAW_OPS + search
        case "transposable":
            return transposable(pattern)
        case "permuted" | "wanda":
            return SCALE_OPS + search
        case "sparsegpt":
            return 2 * SCALE_OPS + search + (n - 1)
    return channel_order(pattern, n) + search if recipe.permute else 0.0


def transposable(pattern: Pattern) -> float:
    """Arithmetic per element of a transposable mask of M x M tiles with N in every row and column.

    M up to 4, exact: |x| of M², then of F fillings the sum of N M elements each, and the largest of F sums:
    (M² + F (N M - 1) + F - 1) / M². Larger, exchanges: |x|, M² log2 M² comparisons to sort, 2 M² counts of rows and
    columns, then in each of `SWEEPS` sweeps for every pair of the N M kept elements two sums and a comparison:
    (M² (3 + 2 log2 M) + SWEEPS 3 K (K - 1) / 2) / M², K = N M.
    """
    n, m = pattern.n, pattern.m
    kept, tile = n * m, m * m
    if m <= EXACT_TILES:
        f = fillings(n, m)
        return (tile + f * (kept - 1) + f - 1) / tile
    return 3 + 2 * log2(m) + SWEEPS * 3 * kept * (kept - 1) / 2 / tile


def fillings(n: int, m: int) -> int:
    """Matrices of 0 and 1 of m rows and columns with n ones in each: 24 at 1:4, 90 at 2:4 (m up to 4)."""
    if n in (0, m):
        return 1
    if min(n, m - n) == 1:
        return factorial(m)
    if (n, m) == (2, 4):
        return 90
    raise ValueError(f"no count of the fillings of {n}:{m}")


def channel_order(pattern: Pattern, n: int) -> float:
    """Arithmetic per element of ASP's search of an order of n channels, in `ROUNDS` M rounds over all pairs of stripes.

    A split of two stripes of M channels is the kept magnitude of 2 M channels, top-n and N additions in each of two
    groups: per row 2 (M top-n + N). Of groups up to EXHAUSTIVE_GROUPS there are binomial(2M, M) / 2 splits, else M²
    exchanges. With S = n / M stripes: ROUNDS M S (S - 1) / 2 splits 2 (M top-n + N) / n.
    """
    stripes, m = ceil(n / pattern.m), pattern.m
    splits = comb(2 * m, m) // 2 if m <= EXHAUSTIVE_GROUPS else m * m
    each = 2 * (m * top_n(pattern, n) + pattern.n)
    return ROUNDS * m * stripes * (stripes - 1) / 2 * splits * each / n


def growth_ops(constant_fan_in: bool, m: int) -> float:
    """Arithmetic per element of an update of RigL or SRigL of m neurons.

    Two selections over the layer, of the largest weights and of the largest gradients, a magnitude and SELECT_OPS
    comparisons each; SRigL counts salient weights (1) and selects again in each neuron (SELECT_OPS) where there is
    more than one.
    """
    return 2 * (1 + SELECT_OPS) + (1 + SELECT_OPS if constant_fan_in and m > 1 else 0.0)


def order_row(prune: Prune, m: int, n: int, pattern: Pattern) -> Row:
    """Bi-Mask's order of n output channels: of CANDIDATES orders, each drawn (n), the survivors of each group counted
    (m n) and capped (m n / M), and the largest sum taken: G (1 + 1/M + 1/m) per element. The order is written."""
    ops = CANDIDATES * (1 + 1 / pattern.m + 1 / m)
    return _extra("order", m, n, ops, prune.operand) | {"c_elements": n}


def statistics_rows(prune: str, tokens: int, inputs: int) -> list[Row]:
    """What Wanda and SparseGPT gather of the inputs [tokens, inputs] of a layer, and make of it.

    Wanda: the sum of squares of each input, 2 T I. SparseGPT: X^T X, T I² multiply-adds, 2 I per element, then
    Cholesky's factor and the inverse of a triangle, I³ / 3 multiply-adds together: 2 I / 3 per element of H.
    """
    if prune == "wanda":
        return [_extra("input_norms", tokens, inputs, 2.0, "activation") | {"c_elements": inputs}]
    gram = _extra("hessian", tokens, inputs, 2.0 * inputs, "activation")
    inverse = _extra("inverse", inputs, inputs, 2.0 * inputs / 3, "state")
    return [gram | {"c_elements": min(inputs, tokens) * inputs}, inverse]


def _extra(kind: str, m: int, n: int, ops: float, role: str) -> Row:
    """A row of mask searches that is no search: m rows of n elements read."""
    return {
        "stage": "PRUNE", "kind": kind, "m": m, "n": n, "ops_per_element": ops, "a_elements": prod((m, n)),
        "a_role": role, "c_elements": m * n, "c_role": "state",
    }  # fmt: skip
