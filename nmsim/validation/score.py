"""Error statistics of predictions against measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Errors:
    """Statistics of the signed relative errors e = predicted / measured - 1 of a data set.

    `mape` mean |e|, `median` and `p90` percentiles of |e| (linear between points), `bias` mean e, `rank` Spearman's
    correlation of predicted and measured values (NaN for fewer than two distinct ones), `worst` the point of
    largest |e|.
    """

    points: int
    mape: float
    median: float
    p90: float
    bias: float
    rank: float
    worst: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Errors:
        """The statistics of two arrays [points] of positive values."""
        error = predicted / measured - 1
        size = np.abs(error)
        return cls(
            len(error), float(size.mean()), float(np.median(size)), float(np.percentile(size, 90)),
            float(error.mean()), rank_correlation(predicted, measured), int(np.argmax(size)),
        )  # fmt: skip


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where either has fewer than two distinct values."""
    a, b = (_ranks(values) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 1, equal values at the mean of theirs [points]."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]
