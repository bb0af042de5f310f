"""What the uncertainty of the energies per action leaves of a total, and of the order of two totals.

An energy per action with value e and half-width u is e exp(s z), z normal with s = ln(1 + u)/1.645: with probability
0.9 it lies within e/(1 + u) and e (1 + u). Actions of one group share their z, as they come from one source. Samples
with one seed draw the same z for a group whatever else is drawn, so that two results on one machine are compared
under the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from nmsim.energy.account import Account
from nmsim.errors import UnsupportedError

SAMPLES = 1000
LOW, HIGH = 0.05, 0.95
SURVIVES = 0.95
"""The share of samples that must agree before an order of two totals is called settled."""


@dataclass(frozen=True)
class Interval:
    """A total, and the bounds between which nine of ten samples of it lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Joules by group of actions and by the spread of their logarithms, `sigma`: all that samples need of a result."""

    joules: Mapping[tuple[str, float], float]

    @classmethod
    def of(cls, account: Account, repeat: np.ndarray) -> Spread:
        """That of all ops, each `repeat` [ops] times."""
        sums: dict[tuple[str, float], float] = {}
        for key, joules in account.totals(repeat).items():
            cost = account.costs[key]
            sums[cost.group, cost.sigma] = sums.get((cost.group, cost.sigma), 0.0) + joules
        return cls(sums)

    @property
    def total(self) -> float:
        """Joules with every energy per action at its value."""
        return sum(self.joules.values())

    def samples(self, number: int = SAMPLES, seed: int = 0) -> np.ndarray:
        """Totals in joules [number] under tables drawn with `seed`."""
        if number < 1:
            raise UnsupportedError(f"at least one sample is needed, not {number}")
        found = np.zeros(number)
        for (group, sigma), joules in self.joules.items():
            z = np.random.default_rng([seed, crc32(group.encode())]).standard_normal(number)
            found += joules * np.exp(sigma * z)
        return found

    def interval(self, number: int = SAMPLES, seed: int = 0) -> Interval:
        """The total with its 90 % interval."""
        low, high = np.quantile(self.samples(number, seed), [LOW, HIGH])
        return Interval(self.total, float(low), float(high))


@dataclass(frozen=True)
class Order:
    """Two totals under the same tables: their ratio, second over first, and the share of samples with its order."""

    ratio: Interval
    agree: float

    @property
    def survives(self) -> bool:
        """Whether the order of the totals holds whatever the tables, within their intervals."""
        return self.agree >= SURVIVES


def order(first: Spread, second: Spread, number: int = SAMPLES, seed: int = 0) -> Order:
    """Whether the order of two results on one machine survives the uncertainty of its table."""
    one, other = first.samples(number, seed), second.samples(number, seed)
    ratios = other / one
    ratio = second.total / first.total
    agree = float(((ratios > 1) == (ratio > 1)).mean())
    low, high = np.quantile(ratios, [LOW, HIGH])
    return Order(Interval(ratio, float(low), float(high)), agree)
