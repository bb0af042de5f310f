"""Power over time in pictures and words, of a trace made by hand."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.energy.timeline import PowerTrace
from nmsim.report.energy import power_line
from nmsim.report.plots import png
from nmsim.report.power import plot_power, power_counters

TRACE = PowerTrace(np.array([0.0, 1.0, 4.0]), {"array": np.array([7.0, 1.0])}, static_w=1.0, cap_w=5.0)
"""8 W for 1 s, 2 W for 3 s: 14 J, 3.5 W on average."""


def test_the_line_says_peak_average_and_how_long_the_cap_is_exceeded():
    line = power_line(TRACE)
    assert "average 3.5 W, peak 8 W (2.29x)" in line
    assert "the cap of 5 W, which holds on the mean of an op, is exceeded in 25.0 % of the time" in line
    assert "cap" not in power_line(PowerTrace(TRACE.edges_s, TRACE.watts, 1.0))


def test_counters_hold_the_mean_watts_of_every_unit():
    events = list(power_counters(TRACE))
    assert events[0]["args"] == {"static [W]": 1.0, "array [W]": 7.0}
    assert events[-1]["args"] == {"static [W]": 1.0, "array [W]": 1.0}
    assert np.mean([sum(e["args"].values()) for e in events]) == pytest.approx(3.5)


def test_the_picture_stacks_the_units_on_the_static_power():
    result = nmsim.simulate("systolic_32x32", nmsim.gemm(64, 64, 64), engine="event")
    figure = plot_power(result, TRACE)
    axes = figure.axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["static", "array", "average 3.5 W", "peak 8 W", "cap 5 W"]
    assert axes.get_ylabel() == "power [W]"
    assert axes.get_ylim()[1] >= 8
    assert png(figure)[:4] == b"\x89PNG"
