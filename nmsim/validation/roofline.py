"""The bar that a model must clear: a roofline of two constants, fitted to the very rows that it is scored on.

    time = max(work / (efficiency x peak), bytes / bandwidth) + t0 for each kernel

Work is what the machine multiplies, bytes are those of every operand once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.arch.arithmetic import product_dtypes, rates
from nmsim.arch.capability import skips
from nmsim.arch.schema import AnyArch, SystolicArch
from nmsim.workloads.optable import DTYPE_BITS, DTYPES, Workload

EFFICIENCIES = np.arange(5, 101) / 100
_BITS = np.array([DTYPE_BITS[name] for name in DTYPES], dtype=float)


@dataclass(frozen=True)
class Bounds:
    """For each operation, seconds at the machine's peak, seconds of its bytes, and its point [ops]."""

    work_s: np.ndarray
    bytes_s: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, arch: AnyArch, work: Workload, owner: np.ndarray) -> Bounds:
        """The two bounds of every operation of `work` on `arch`."""
        skip = skips(arch, work)
        size = work["m"].astype(float) * work["n"] * work["count"]
        kept = skip.n / skip.m
        macs = size * work["k"] * kept
        lanes = size * work["ops_per_element"] / (arch.vector.lanes * arch.clock)
        peak = _peaks(arch)[product_dtypes(arch, work)] * arch.clock
        with np.errstate(divide="ignore"):
            work_s = np.where(work.gemms, macs / peak, lanes)
        bits = {x: _BITS[work[f"{x}_dtype"]] * work[f"{x}_elements"] for x in "abc"}
        bits["a"] = np.where(skip.side == 1, bits["a"] * kept, bits["a"])
        bits["b"] = np.where(skip.side == 2, bits["b"] * kept, bits["b"])
        dram = arch.memories.dram
        return cls(work_s, sum(bits.values()) / 8 / (dram.bandwidth * dram.efficiency), owner)

    def kernels(self, points: int) -> np.ndarray:
        """Operations of each point [points]."""
        return np.bincount(self.owner, minlength=points).astype(float)

    def seconds(self, efficiency: float, points: int) -> np.ndarray:
        """The time of each point [points] without t0."""
        bound = np.maximum(self.work_s / efficiency, self.bytes_s)
        return np.bincount(self.owner, weights=bound, minlength=points)


@dataclass(frozen=True)
class Fit:
    """The constants with the least mean absolute error, and the time they give each point [points]."""

    efficiency: float
    t0_s: float
    seconds: np.ndarray


def joined(parts: list[Bounds], sizes: list[int]) -> Bounds:
    """The bounds of several groups of points, whose numbers are `sizes`, in one."""
    start = np.cumsum([0, *sizes[:-1]])
    owner = np.concatenate([part.owner + first for part, first in zip(parts, start, strict=True)])
    return Bounds(
        np.concatenate([part.work_s for part in parts]), np.concatenate([part.bytes_s for part in parts]), owner
    )


def fit(bounds: Bounds, measured_s: np.ndarray) -> Fit:
    """The two constants fitted to the points: efficiency in steps of a hundredth, and the best t0 >= 0 for each.

    For a given efficiency the error is the sum of |p + k t0 - m| / m, convex and piecewise linear in t0, so that
    the weighted median of (m - p) / k with weights k / m is the best.
    """
    points = len(measured_s)
    kernels = bounds.kernels(points)
    candidates = []
    for efficiency in EFFICIENCIES.tolist():
        bare = bounds.seconds(efficiency, points)
        t0 = max(_weighted_median((measured_s - bare) / kernels, kernels / measured_s), 0.0)
        seconds = bare + kernels * t0
        error = float(np.abs(seconds / measured_s - 1).mean())
        candidates.append((error, -efficiency, t0, seconds))
    _, efficiency, t0, seconds = min(candidates, key=lambda candidate: candidate[:2])
    return Fit(-efficiency, t0, seconds)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _peaks(arch: AnyArch) -> np.ndarray:
    """Multiply-accumulates per cycle of the whole machine by code of data type, 0 where it has none."""
    units = arch.cores.count if not isinstance(arch, SystolicArch) else _units(arch)
    able = rates(arch)
    return np.array([units * able.get(name, 0.0) for name in DTYPES])


def _units(arch: SystolicArch) -> int:
    return arch.array.rows * arch.array.columns * arch.array.count
