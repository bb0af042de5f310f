"""How much a figure depends on each axis of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 16


def sensitivity(frame: pd.DataFrame, axes: Sequence[str], metric: str) -> pd.DataFrame:
    """For each axis: its first-order `share` of the variance of the metric, and `swing`, the ratio of the largest to
    the smallest mean over its values.

    The share is Var(E[y | x]) / Var(y) (Saltelli et al. 2008, first-order index), exact where every combination of
    a grid is there; numbers with more than BINS values are cut into that many quantiles.
    """
    import pandas as pd

    good = frame[np.isfinite(frame[metric].to_numpy(float))]
    values = good[metric].to_numpy(float)
    variance = values.var()
    table = []
    for axis in axes:
        codes = _levels(good[axis])
        counts = np.bincount(codes)
        means = np.bincount(codes, weights=values) / counts
        between = float(counts @ (means - values.mean()) ** 2) / max(len(values), 1)
        swing = float(means.max() / means.min()) if means.min() > 0 else np.nan
        table.append(
            {"axis": axis, "levels": len(counts), "share": between / variance if variance else 0.0, "swing": swing}
        )
    return pd.DataFrame(table).sort_values("share", ascending=False, ignore_index=True)


def _levels(column: pd.Series) -> np.ndarray:
    """A code per value, or per quantile of many numbers [points]."""
    import pandas as pd

    codes, distinct = pd.factorize(column)
    if len(distinct) <= BINS or not pd.api.types.is_numeric_dtype(column):
        return np.asarray(codes)
    return np.asarray(pd.factorize(pd.qcut(column, BINS, duplicates="drop"))[0])
