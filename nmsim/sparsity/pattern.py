"""Patterns: which elements of an operand may be non-zero, and along which axis."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

from nmsim.errors import PatternError

Kind = Literal["dense", "nm", "vnm", "fan_in", "unstructured"]

MAX_GROUP = 128
"""Ranks and counts within a group are kept in 8 bits, which hold 0 to 255."""

_NM = re.compile(r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})")
_FORMS = "dense, n:m (as 2:4), V:n:m (as 64:2:8), fan-in:K (as fan-in:96), unstructured:D (as unstructured:0.1)"


@dataclass(frozen=True)
class Pattern:
    """A sparsity pattern, `n:m` keeping n of every m consecutive elements along `axis`.

    Kinds: `dense`; `nm`; `vnm` (V:n:m of VENOM: in each block of V rows, 4 of every m columns are kept, the same
    for all V rows, and n of these 4 in each row); `fan_in` (exactly n kept in every row, anywhere: SRigL);
    `unstructured` (a share `density` of the whole array).

    `axis` is the NumPy axis along which the groups run; the default, the last, is the reduction axis of a weight
    stored [out, in]. `density` is 0 for `fan_in`, whose share depends on the length: ask `density_along`.
    """

    kind: Kind = "dense"
    n: int = 1
    m: int = 1
    v: int = 1
    density: float = 1.0
    axis: int = -1

    def __post_init__(self) -> None:
        if not _whole(self.axis) or self.kind not in _VALID or not _VALID[self.kind](self):
            raise PatternError(
                f"no such pattern: {_fields(self)}; make one as Pattern.parse('2:4') or Pattern.nm(2, 4)"
            )

    @classmethod
    def parse(cls, text: str | Pattern, axis: int = -1) -> Pattern:
        """The pattern that `text` writes, along `axis`; raises PatternError naming the accepted forms."""
        if isinstance(text, Pattern):
            return text
        if not isinstance(text, str):
            raise PatternError(f"a pattern is a text such as '2:4', not {text!r}; accepted: {_FORMS}")
        word = text.strip().lower()
        if word == "dense":
            return cls(axis=axis)
        if match := _NM.fullmatch(word):
            v, n, m = match.groups()
            return cls.vnm(int(v), int(n), int(m), axis) if v else cls.nm(int(n), int(m), axis)
        head, _, tail = word.partition(":")
        try:
            if head in ("fan-in", "fan_in"):
                return cls.fan_in(int(tail), axis)
            if head == "unstructured":
                return cls.unstructured(float(tail), axis)
        except ValueError as error:
            if isinstance(error, PatternError):
                raise
        raise PatternError(f"not a pattern: {text!r}; accepted: {_FORMS}")

    @classmethod
    def nm(cls, n: int, m: int, axis: int = -1) -> Pattern:
        """`n:m` along `axis`, 1 <= n <= m <= 128; n = m is dense."""
        if not (1 <= n <= m <= MAX_GROUP):
            raise PatternError(f"not a pattern: {n}:{m}; n:m needs 1 <= n <= m <= {MAX_GROUP}")
        return cls(axis=axis) if n == m else cls("nm", n, m, 1, n / m, axis)

    @classmethod
    def vnm(cls, v: int, n: int, m: int, axis: int = -1) -> Pattern:
        """`V:n:m` along `axis`: blocks of v rows share 4 columns of every m, and each row keeps n of those 4."""
        if v < 1 or not (1 <= n <= 4 <= m <= MAX_GROUP):
            raise PatternError(f"not a pattern: {v}:{n}:{m}; V:n:m needs V >= 1 and 1 <= n <= 4 <= m <= {MAX_GROUP}")
        if v == 1 or m == 4:
            return cls.nm(n, m, axis)
        return cls("vnm", n, m, v, n / m, axis)

    @classmethod
    def fan_in(cls, kept: int, axis: int = -1) -> Pattern:
        """Exactly `kept` elements in every row along `axis`, at any place."""
        if kept < 1:
            raise PatternError(f"not a pattern: fan-in:{kept}; a row keeps at least 1 element")
        return cls("fan_in", kept, 1, 1, 0.0, axis)

    @classmethod
    def unstructured(cls, density: float, axis: int = -1) -> Pattern:
        """A share `density` (0 < density <= 1) of all elements, at any place; 1 is dense."""
        if not 0.0 < density <= 1.0:
            raise PatternError(f"not a pattern: unstructured:{density}; the density lies above 0 and at most at 1")
        return cls(axis=axis) if density == 1.0 else cls("unstructured", 1, 1, 1, density, axis)

    @property
    def is_dense(self) -> bool:
        """Whether every element may be non-zero."""
        return self.kind == "dense"

    @property
    def has_groups(self) -> bool:
        """Whether hardware for n:m can run it (n:m itself, or V:n:m, which is n:m in every row)."""
        return self.kind in ("nm", "vnm")

    def kept(self, length: int) -> int:
        """How many of `length` consecutive elements along the axis may be non-zero.

        A tail of r < m elements keeps min(n, r): no element is dropped that a full group would have kept.
        For an unstructured pattern this is the mean, rounded.
        """
        if self.kind == "dense":
            return length
        if self.kind == "fan_in":
            return min(self.n, length)
        if self.kind == "unstructured":
            return round(self.density * length)
        return length // self.m * self.n + min(self.n, length % self.m)

    def density_along(self, length: int) -> float:
        """The share kept of an axis of `length` elements."""
        return self.kept(length) / length

    def along(self, axis: int) -> Pattern:
        """The same pattern with its groups along another axis."""
        return replace(self, axis=axis)

    def __str__(self) -> str:
        """The text that `parse` reads back (without the axis)."""
        return {
            "dense": "dense",
            "nm": f"{self.n}:{self.m}",
            "vnm": f"{self.v}:{self.n}:{self.m}",
            "fan_in": f"fan-in:{self.n}",
            "unstructured": f"unstructured:{float(self.density)!r}",
        }[self.kind]


def _fields(pattern: Pattern) -> str:
    return ", ".join(f"{name} {value!r:.40}" for name, value in vars(pattern).items())


def _whole(*values: object) -> bool:
    return all(hasattr(value, "__index__") for value in values)


_VALID: dict[object, Callable[[Pattern], bool]] = {
    "dense": lambda p: (p.n, p.m, p.v, p.density) == (1, 1, 1, 1.0),
    "nm": lambda p: _whole(p.n, p.m) and 1 <= p.n < p.m <= MAX_GROUP and p.v == 1 and p.density == p.n / p.m,
    "vnm": lambda p: _whole(p.n, p.m, p.v) and 1 <= p.n <= 4 < p.m <= MAX_GROUP and p.v > 1 and p.density == p.n / p.m,
    "fan_in": lambda p: _whole(p.n) and p.n >= 1 and (p.m, p.v, p.density) == (1, 1, 0.0),
    "unstructured": lambda p: (p.n, p.m, p.v) == (1, 1, 1) and isinstance(p.density, Real) and 0.0 < p.density < 1.0,
}
"""Whether the numbers of a pattern of each kind go together."""

DENSE = Pattern()
