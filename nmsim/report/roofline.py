"""The roofline of a result: the machine's roofs and where each product stands beneath them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np

from nmsim.arch.capability import skips
from nmsim.arch.schema import AnyArch
from nmsim.report.machines import dram_bandwidth, peak
from nmsim.results.result import Result


@dataclass(frozen=True)
class Roofline:
    """Roofs in FLOP/s and B/s, and points [points].

    `dense` is the dense peak of the data type in use, `sparse` that times m/n of `mode`, the sparsest pattern that
    a product was executed with ("" if none). `intensity` is the FLOP of the dense product per DRAM byte, `rate`
    those per second, `stage` the code of the stage, `share` the time; products alike in these are one point.
    """

    dense: float
    sparse: float
    mode: str
    bandwidth: float
    intensity: np.ndarray
    rate: np.ndarray
    share: np.ndarray
    stage: np.ndarray

    @classmethod
    def of(cls, result: Result) -> Roofline:
        """The roofline of a result of any engine."""
        arch = cast(AnyArch, result.arch)
        flop = 2 * result.macs_dense_per_op()
        moved, seconds = result.per_op("dram_bytes"), result.per_op("latency_s")
        rows = np.flatnonzero(result.workload.gemms & (moved > 0) & (seconds > 0))
        dense = 2 * (float(np.max(result.columns["peak_macs"], initial=0.0)) * arch.clock or peak(arch)[1])
        density, mode = _sparsest(result, arch)
        share = seconds[rows] * result.workload["repeat"][rows]
        points = np.stack([flop[rows] / moved[rows], flop[rows] / seconds[rows], result.workload["stage"][rows]])
        (x, y, stage), share = _merged(points, share / share.sum())
        return cls(dense, float(dense / density), mode, dram_bandwidth(arch), x, y, share, stage.astype(int))

    def span(self) -> tuple[float, float]:
        """The range of intensities to draw: every point, and the corners of the roofs."""
        corners = [self.dense / self.bandwidth, self.sparse / self.bandwidth]
        points = [x for x in [*self.intensity.tolist(), *corners] if x > 0] or [1.0]
        return min(points) / 4, max(points) * 4

    def heights(self) -> tuple[float, float]:
        """The range of rates to draw."""
        points = [y for y in [*self.rate.tolist(), self.dense, self.sparse] if y > 0] or [1.0]
        return min(points) / 4, max(points) * 3


def _sparsest(result: Result, arch: AnyArch) -> tuple[Fraction, str]:
    """The lowest n/m that a product was executed with, and the pattern's text."""
    skip = skips(arch, result.workload)
    used = (skip.side > 0) & ~result.columns.get("plan.ran_dense", np.zeros(len(skip.side), dtype=bool))
    pairs = set(zip(skip.n[used].tolist(), skip.m[used].tolist(), strict=True))
    if not pairs:
        return Fraction(1), ""
    n, m = min(pairs, key=lambda pair: Fraction(*pair))
    return Fraction(n, m), f"{n}:{m}"


def _merged(points: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [3, products] with those that agree to 3 digits taken together, and the sum of their shares."""
    key = np.vstack([np.round(np.log10(points[:2]), 3), points[2]])
    _, first, group = np.unique(key, axis=1, return_index=True, return_inverse=True)
    return points[:, first], np.bincount(group.ravel(), weights=share, minlength=len(first))
