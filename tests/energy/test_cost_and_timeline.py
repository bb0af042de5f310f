"""Kilowatt-hours and what they cost, and power over time on a timeline made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nmsim
from nmsim.energy.cost import Tariff, bill
from nmsim.energy.timeline import power_over_time
from nmsim.errors import UnsupportedError


def test_a_bill_by_hand():
    """7.2 MJ are 2 kWh, 2.4 with a PUE of 1.2: at 0.25 a kWh 0.60, at 500 g a kWh 1.2 kg."""
    found = bill(7.2e6, Tariff(0.25, 500, 1.2))
    assert (found.kwh, found.price, found.kgco2e) == pytest.approx((2.4, 0.6, 1.2))
    assert bill(3.6e6, Tariff()).price is None


@pytest.mark.parametrize("tariff", [(-1, None, 1), (None, float("nan"), 1), (None, None, 0.5)])
def test_a_tariff_that_makes_no_sense_is_refused(tariff):
    with pytest.raises(UnsupportedError, match="must be a number of at least"):
        Tariff(*tariff)


def test_metrics_by_hand():
    """EDP = E t, ED2P = E t^2, TOPS/W = 2 MACs / E."""
    r = nmsim.simulate("systolic_32x32", nmsim.gemm(64, 64, 64, pattern="2:4", operand="B"))
    assert r.edp == pytest.approx(r.energy_j * r.latency_s)
    assert r.ed2p == pytest.approx(r.energy_j * r.latency_s**2)
    assert r.tops_w_executed == pytest.approx(2e-12 * 64**3 / 2 / r.energy_j)
    assert r.tops_w_dense_equivalent == pytest.approx(2 * r.tops_w_executed)
    assert r.tops_mm2_executed == pytest.approx(2e-12 * 64**3 / 2 / r.latency_s / r.area_mm2)
    assert r.energy_kwh == pytest.approx(r.energy_j / 3.6e6)


TIMELINE = pd.DataFrame(
    {
        "unit": ["dma", "array", "array", "dma"],
        "start_cycle": [0, 4, 8, 6],
        "end_cycle": [4, 8, 12, 10],
        "joules": [8.0, 12.0, 12.0, 8.0],
    }
)


def test_power_over_time_by_hand():
    """At 1 Hz: the DMA spends 8 J in 4 cycles, 2 W, twice; the array 12 J in 4, 3 W, twice; 1 W static.
    0-4: 3 W, 4-6: 4 W, 6-8: 6 W, 8-10: 6 W, 10-12: 4 W; in all 12 + 8 + 12 + 12 + 8 = 52 J = 16 + 24 + 12. Above 4 W
    it is for 4 of 12 s. In two bins of 6 s: (12 + 8)/6 W and (12 + 12 + 8)/6 W."""
    found = power_over_time(TIMELINE, clock=1.0, static_w=1.0)
    assert found.edges_s.tolist() == [0, 4, 6, 8, 10, 12]
    assert found.total_w.tolist() == [3, 4, 6, 6, 4]
    assert found.energy_j == 52
    assert found.average_w == pytest.approx(52 / 12)
    assert found.peak_w == 6
    assert found.over(4.0) == pytest.approx(4 / 12)
    assert found.binned(2).total_w == pytest.approx([20 / 6, 32 / 6])
    frame = found.to_frame()
    assert frame["total_w"].tolist() == found.total_w.tolist()
    assert frame["dma_w"].tolist() == [2, 0, 2, 2, 0]


def test_energy_is_conserved_on_a_random_timeline():
    rng = np.random.default_rng(1)
    start, joules = rng.integers(0, 1000, 200), rng.random(200)
    frame = pd.DataFrame({
        "unit": rng.choice(["a", "b", "c"], 200), "start_cycle": start, "end_cycle": start + rng.integers(1, 50, 200),
        "joules": joules,
    })  # fmt: skip
    found = power_over_time(frame, clock=1e9, static_w=0.0)
    assert found.energy_j == pytest.approx(joules.sum())
    assert found.binned(37).energy_j == pytest.approx(joules.sum())
    assert found.binned(37).peak_w <= found.peak_w
    assert found.peak_w >= found.average_w


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (TIMELINE.drop(columns="end_cycle"), "end_cycle is missing"),
        (TIMELINE.assign(end_cycle=0), "row 0 of the timeline"),
        (TIMELINE.assign(joules=-1.0), r"row 0 of the timeline \(dma\) spends -1 J"),
        (TIMELINE.assign(joules=float("nan")), "spends nan J"),
        (TIMELINE.iloc[:0], "at least one interval"),
    ],
)
def test_a_timeline_that_makes_no_sense_is_refused(frame, message):
    with pytest.raises(UnsupportedError, match=message):
        power_over_time(frame, clock=1.0)
