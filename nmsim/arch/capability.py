"""What a machine can skip: which pattern an op runs as, and the reason where it runs dense."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nmsim.arch.arithmetic import product_dtypes
from nmsim.arch.schema import AnyArch, Sparsity
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.workloads.optable import AXES, DTYPES, Workload

SIDES = ("none", "A", "B")
_WRONG_AXIS = "groups of"


@dataclass(frozen=True)
class Skips:
    """Per product [ops]: the operand whose zeros are skipped (`side`, an index of SIDES), the pattern n:m the machine
    runs it as (1:1 when dense), why nothing is skipped (`reason`, an index into `reasons`), and whether that is for
    want of a mode of the machine (`unsupported`) rather than of groups along k."""

    side: np.ndarray
    n: np.ndarray
    m: np.ndarray
    reason: np.ndarray
    unsupported: np.ndarray
    reasons: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Skips:
        """The same for these rows."""
        return Skips(
            self.side[rows], self.n[rows], self.m[rows], self.reason[rows], self.unsupported[rows], self.reasons
        )

    def dense_where(self, rows: np.ndarray) -> Skips:
        """The same with nothing skipped in these rows (boolean [ops])."""
        side, n, m = (np.where(rows, x, y) for x, y in ((0, self.side), (1, self.n), (1, self.m)))
        return replace(self, side=side.astype(self.side.dtype), n=n, m=m)


def runs_as(pattern: Pattern, sparsity: Sparsity) -> Pattern | None:
    """The sparsest mode of the machine that every array of this pattern satisfies; None if there is none.

    An array that is n:m is also n':m' when m' divides m and n' >= min(n, m'), or when m divides m' and
    n' >= n m'/m: on a machine with 2:4 only, 2:8 runs as 2:4. Where kernels gather the columns that blocks share,
    V:n:m runs as n':m if n:4 runs as n':4.
    """
    if not pattern.has_groups:
        return None
    if sparsity.patterns == "any":
        largest = max(g for g in range(1, sparsity.max_group + 1) if pattern.m % g == 0)
        modes = [(min(pattern.n, largest), largest)]
    else:
        modes = [(p.n, p.m) for p in map(Pattern.parse, sparsity.patterns)]
    covering = [(n / m, m, n) for n, m in modes if n < m and _covers(n, m, pattern)]
    if sparsity.blocks and pattern.kind == "vnm":
        covering += [(n / pattern.m, pattern.m, n) for n, m in modes if m == 4 and pattern.n <= n < m]
    if not covering:
        return None
    _, m, n = min(covering)
    return Pattern.nm(n, m)


def _covers(n: int, m: int, pattern: Pattern) -> bool:
    if pattern.m % m == 0:
        return n >= min(pattern.n, m)
    return m % pattern.m == 0 and n >= pattern.n * (m // pattern.m)


def skips(arch: AnyArch, work: Workload) -> Skips:
    """What `arch` skips of each op of `work`; looks at every distinct combination once."""
    reasons: dict[str, int] = {"": 0}
    dtypes = product_dtypes(arch, work)
    found = [_operand_skips(arch, work, letter, dtypes, reasons) for letter in "ab"]
    (a_n, a_m, a_reason), (b_n, b_m, b_reason) = found
    use_a = (a_n < a_m) & ~((b_n < b_m) & (b_n * a_m <= a_n * b_m))
    use_b = (b_n < b_m) & ~use_a
    side = np.where(use_a, SIDES.index("A"), np.where(use_b, SIDES.index("B"), 0)).astype(np.uint8)
    reason = np.where((side > 0) | ~work.gemms, 0, np.where(b_reason > 0, b_reason, a_reason)).astype(np.int16)
    lacking = np.array([not text.startswith(_WRONG_AXIS) for text in reasons])
    n = np.where(use_a, a_n, np.where(use_b, b_n, 1))
    m = np.where(use_a, a_m, np.where(use_b, b_m, 1))
    return Skips(side, n, m, reason, (reason > 0) & lacking[reason], tuple(reasons))


def _operand_skips(
    arch: AnyArch, work: Workload, letter: str, dtype: np.ndarray, reasons: dict[str, int]
) -> tuple[np.ndarray, ...]:
    """n, m and reason code per op for one operand: found for each distinct (pattern, axis, dtype), then spread.

    `dtype` is the type that the op multiplies in, whose mode counts, not the one the operand is stored in.
    """
    pattern, axis = work[f"{letter}_pattern"], work[f"{letter}_axis"]
    key = (pattern.astype(np.int64) * len(AXES) + axis) * len(DTYPES) + dtype
    distinct, first, spread = np.unique(key, return_index=True, return_inverse=True)
    table = np.ones((3, len(distinct)), dtype=np.int64)
    for i, row in enumerate(first):
        runs, why = mode(arch, work.patterns[pattern[row]], AXES[axis[row]], DTYPES[dtype[row]], letter.upper())
        table[:, i] = runs.n, runs.m, reasons.setdefault(why, len(reasons))
    n, m, reason = table[:, spread]
    return n, m, reason


def mode(arch: AnyArch, pattern: Pattern, axis: str, dtype: str, operand: str) -> tuple[Pattern, str]:
    """The pattern that an operand with groups along `axis` runs as in products of `dtype`, and why where dense."""
    able = arch.sparsity
    if pattern.is_dense or gathered(arch, pattern):
        return DENSE, ""
    if axis != "k":
        return DENSE, f"{_WRONG_AXIS} {operand} run along {axis}, not along the reduction axis k"
    covering = runs_as(pattern, able)
    if covering is None:
        return DENSE, f"{arch.name} has no mode for {pattern} (has {describe(able)})"
    if operand not in able.operands:
        return DENSE, f"operand {operand} cannot be sparse on {arch.name}"
    if able.dtypes is not None and dtype not in able.dtypes:
        return DENSE, f"{arch.name} has no sparse mode for {dtype} (has {', '.join(able.dtypes)})"
    return covering, ""


def modes(arch: AnyArch) -> str:
    """What the machine can skip, in words: modes of its units, and kernels that gather."""
    gathers = getattr(arch, "gathers", None)
    kernels = [] if gathers is None else ["csr", "fan-in"] if gathers.condensed else ["csr"]
    skipping = describe(arch.sparsity)
    return ", ".join([*([] if kernels and skipping == "none" else [skipping]), *kernels])


def gathered(arch: AnyArch, pattern: Pattern) -> bool:
    """Whether the machine has a kernel that takes the kept weights of this pattern one by one, at any place."""
    return pattern.kind in ("fan_in", "unstructured") and getattr(arch, "gathers", None) is not None


def describe(able: Sparsity) -> str:
    """The sparse modes in words."""
    if able.patterns == "any":
        return f"any n:m with m up to {able.max_group}"
    return ", ".join(able.patterns) or "none"
