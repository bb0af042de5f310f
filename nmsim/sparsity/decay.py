"""Mask decay: the share beta that pruned weights keep in the forward weight, step by step, and its gradients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.sparsity.groups import Array

Counting = Literal["uncapped", "aqt_2022", "aqt_head"]

UPDATE_CAPS: dict[str, int | None] = {"uncapped": None, "aqt_2022": 16, "aqt_head": 8}
"""The most updates that are counted. The caps are google/aqt's (jax_legacy/jax/train_utils.py, 2022 and since 2024)."""

ROUNDING = 1e-9
"""A linear beta below this is a rounding error of the rate."""

NEGLIGIBLE = 1e-3
"""An exponential beta below this is dropped: what is left of a pruned weight is then less than half a unit in the last
place of bfloat16 (at least 2^-9 of the value) of any weight kept in its group, none of which is smaller."""

SLOWEST = 1e-15
_UNDERFLOW = 746.0


class Update(NamedTuple):
    """What happens in one step: is the mask applied, is it searched anew, and how many updates have there been."""

    applies: bool
    refreshes: bool
    updates: int


def update_at(step: int, start: int | None, every: int, counting: Counting = "uncapped") -> Update:
    """The update in a step: masks from `start` on (None: never), searched anew `every` steps (0: once, at the start).

    The count is floor((step - start) / every) from the start on. `counting` names what google/aqt counts instead:
    no more than 16 (`aqt_2022`) or 8 (`aqt_head`), and from step -1 on where masks are never applied. Raises
    UnsupportedError for negative numbers and another name.
    """
    if counting not in UPDATE_CAPS:
        raise UnsupportedError(unknown("way of counting updates", counting, UPDATE_CAPS))
    if min(step, every, start or 0) < 0:
        raise UnsupportedError(f"steps are whole numbers of at least 0, not {step}, start {start}, every {every}")
    cap = UPDATE_CAPS[counting]
    applies = start is not None and step >= start
    since = step - start if start is not None else -1 if cap is None else step + 1
    updates = since // every if since >= 0 and every else 0
    refreshes = applies and (since % every == 0 if every else since == 0)
    return Update(applies, refreshes, updates if cap is None else min(cap, updates))


@dataclass(frozen=True, kw_only=True)
class BetaDecay(ABC):
    """beta of a step: 1 up to `start`, then a falling function of the updates since, one `every` steps.

    Below `snap` beta is exactly 0, so that it is known from which step on products are sparse; from step `end`, if
    given, it is 0 wherever it stands. `counting` is that of `update_at`. Raises UnsupportedError for numbers that make
    no decay.
    """

    start: int = 0
    every: int = 1
    end: int | None = None
    snap: float = 0.0
    counting: Counting = "uncapped"

    def __post_init__(self) -> None:
        update_at(0, self.start, self.every, self.counting)
        if self.every < 1 or not 0.0 <= self.snap < 1.0 or (self.end is not None and self.end < self.start):
            raise UnsupportedError(
                f"a decay needs every of at least 1, snap in [0, 1) and end from start on; got {self.every}, "
                f"{self.snap!r} and {self.end} with start {self.start}"
            )

    @abstractmethod
    def share(self, updates: int) -> float:
        """The share after a number of updates before it is snapped, falling from 1."""

    @abstractmethod
    def horizon(self) -> int:
        """A number of updates after which the share is 0."""

    def beta(self, step: int) -> float:
        """The share of their value that pruned weights keep in a step, 0 to 1."""
        if self.end is not None and step >= self.end:
            return 0.0
        return self._snapped(update_at(step, self.start, self.every, self.counting).updates)

    @property
    def first_sparse_step(self) -> int | None:
        """The first step whose beta is 0; None where a cap on the updates keeps it above 0 for ever."""
        cap = UPDATE_CAPS[self.counting]
        last = self.horizon() if cap is None else cap
        if self._snapped(last):
            return self.end
        updates = bisect_left(range(last), True, key=lambda u: self._snapped(u) == 0.0)
        reached = self.start + updates * self.every
        return reached if self.end is None else min(reached, self.end)

    def _snapped(self, updates: int) -> float:
        share = self.share(updates)
        return share if share >= self.snap else 0.0


@dataclass(frozen=True)
class LinearDecay(BetaDecay):
    """beta = max(0, 1 - rate u) after u updates: 0 from u = 1 / rate on (MdGf-Linear, arXiv 2402.04744; 2209.07617)."""

    rate: float
    snap: float = field(default=ROUNDING, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.rate)

    def share(self, updates: int) -> float:
        """max(0, 1 - rate u)."""
        return max(0.0, 1.0 - updates * self.rate)

    def horizon(self) -> int:
        """1 / rate, rounded up."""
        return math.ceil(1 / self.rate) + 1


@dataclass(frozen=True)
class ExponentialDecay(BetaDecay):
    """beta = exp(-rate u) after u updates, 0 at the first u that brings it below `snap` (MdGf-Exponential).

    `snap` 0 is the published rule (arXiv 2402.04744): beta stays above 0 until `end`, or until exp underflows.
    """

    rate: float
    snap: float = field(default=NEGLIGIBLE, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.rate)

    def share(self, updates: int) -> float:
        """exp(-rate u)."""
        return math.exp(-updates * self.rate)

    def horizon(self) -> int:
        """Where exp underflows."""
        return math.ceil(_UNDERFLOW / self.rate) + 1


@dataclass(frozen=True)
class CosineDecay(BetaDecay):
    """beta = (1 + cos(pi u / updates)) / 2 after u of `updates` updates, 0 from then on: half a period of a cosine."""

    updates: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.updates < 1:
            raise UnsupportedError(f"a cosine decay takes at least 1 update, not {self.updates!r}")

    def share(self, updates: int) -> float:
        """(1 + cos(pi u / updates)) / 2."""
        return (1.0 + math.cos(math.pi * updates / self.updates)) / 2.0 if updates < self.updates else 0.0

    def horizon(self) -> int:
        """The last update."""
        return self.updates


def aqt_mask_decay(
    weight: float, start: int = 0, every: int = 1, release: Literal["aqt_2022", "aqt_head"] = "aqt_2022"
) -> LinearDecay:
    """The decay of google/aqt (jax_legacy/jax/sparsity) with its `mask_decay_weight`.

    It forces beta to 0 at update 16. Since 2024 (`aqt_head`) no more than 8 updates are counted, so that this is never
    reached and a weight below 1/8 leaves beta above 0 for ever.
    """
    if release == "aqt_2022":
        return LinearDecay(weight, start=start, every=every, end=start + 16 * every, snap=0.0, counting=release)
    return LinearDecay(weight, start=start, every=every, snap=0.0, counting=release)


def soft_weight(weight: ArrayLike, mask: ArrayLike, beta: float) -> Array:
    """The forward weight W (m + (1 - m) beta), in the weight's type; beta 0 gives exact zeros."""
    weight, mask = np.asarray(weight), np.asarray(mask).astype(np.bool_, copy=False)
    return _decayed(weight, mask, beta)


def decay_gradient(
    upstream: ArrayLike, mask: ArrayLike, beta: float, rule: Literal["ste", "autodiff"] = "ste"
) -> Array:
    """The gradient to W of a loss with gradient `upstream` = G to the forward weight.

    `ste` passes G on to every weight (PGF's code); `autodiff` is the derivative of `soft_weight`, G (m + (1 - m) beta)
    (google/aqt's). Raises UnsupportedError for another rule.
    """
    upstream, mask = np.asarray(upstream), np.asarray(mask).astype(np.bool_, copy=False)
    if rule not in ("ste", "autodiff"):
        raise UnsupportedError(unknown("gradient rule", rule, ("ste", "autodiff")))
    return upstream if rule == "ste" else _decayed(upstream, mask, beta)


def _decayed(array: Array, mask: Array, beta: float) -> Array:
    if array.shape != mask.shape:
        raise ShapeError(f"shapes differ: {list(array.shape)} and {list(mask.shape)}")
    if not 0.0 <= beta <= 1.0:
        raise UnsupportedError(f"beta lies in [0, 1], not {beta!r}")
    return np.where(mask, array, array * float(beta) if beta else 0)


def _check_rate(rate: float) -> None:
    if not SLOWEST <= rate < math.inf:
        raise UnsupportedError(f"the rate of a decay is at least {SLOWEST:g}, not {rate!r}")
