"""What is expected of SAT with BDWP 2:8, beside what the model shows; nothing is tuned until it agrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from studies.sat.points import ARRAYS, BANDWIDTHS
from studies.sat.run import PASSES, STAGES, pick

BAND = (1.6, 1.97)
INLINE_OS = "pre-generation, scheduling"
NOTHING = 0.005
"""A gain of less than this share of the products' time counts as none: the fill of the array remains."""


@dataclass(frozen=True)
class Claim:
    """An expectation, what was seen, and whether it was."""

    expected: str
    seen: str
    holds: bool


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Every expectation, from the table of `run.with_speedups`."""
    base = pick(table, "ablation", "none")
    yield _mean(base)
    yield from _largest_stage(base)
    yield _inline(pick(table, "ablation", INLINE_OS))
    yield _monotonic(table, "bandwidth", [f"{x:g}" for x in BANDWIDTHS], "rises with DRAM bandwidth", rising=True)
    yield _monotonic(table, "array", [str(x) for x in ARRAYS], "falls with array size", rising=False)


def _mean(base: pd.DataFrame) -> Claim:
    mean = base["speedup"].mean()
    low, high = BAND
    seen = f"{mean:.3f}, networks from {base['speedup'].min():.2f} to {base['speedup'].max():.2f}"
    return Claim(f"the mean speed-up lies between {low} and {high}", seen, bool(low <= mean <= high))


def _largest_stage(base: pd.DataFrame) -> Iterator[Claim]:
    for what, stages in (("of FF, BP and WU", PASSES), ("with element-wise work as a stage of its own", STAGES)):
        times = base.set_index("network")[[f"bdwp_{stage}" for stage in stages]]
        other = times.idxmax(axis=1).str.removeprefix("bdwp_")
        others = [f"{network}: {stage}" for network, stage in other.items() if stage != "WU"]
        seen = f"in {len(base) - len(others)} of {len(base)}" + (f" ({', '.join(others)})" if others else "")
        yield Claim(f"WU is the largest stage under BDWP, {what}", seen, not others)


def _inline(rows: pd.DataFrame) -> Claim:
    gain = rows["products"] - 1
    seen = f"FF, BP and WU together: {1 + gain.min():.4f} to {1 + gain.max():.4f} times as fast as dense"
    expected = "pruned in the stream and output stationary, BDWP gains nothing"
    return Claim(expected, seen, bool((gain.abs() < NOTHING).all()))


def _monotonic(table: pd.DataFrame, study: str, labels: list[str], what: str, *, rising: bool) -> Claim:
    curves = pick(table, study).pivot(index="label", columns="network", values="speedup").loc[labels]
    steps = curves.diff().iloc[1:] if rising else -curves.diff().iloc[1:]
    against = [f"{network} at {label}" for network in steps for label in steps.index if steps.loc[label, network] < 0]
    mean = curves.mean(axis=1)
    seen = f"mean {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f}" + (f"; not {', '.join(against)}" if against else "")
    return Claim(f"the speed-up {what}", seen, not against)
