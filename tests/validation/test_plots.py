"""Plots of validation: every point is drawn, the map shows what was computed."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.report.plots import png
from nmsim.report.validation_plots import Cloud, Map, plot_scatter, plot_speedup, what


def cloud(table, name, arch="a"):
    return Cloud(table, arch, name, np.array([1e-5, 1e-3]), np.array([2e-5, 1.5e-3]))


def test_every_point_is_drawn_in_the_panel_of_its_table():
    clouds = [cloud("gemm", "x_fp16_dense"), cloud("gemm", "x_fp16_2:4", "b"), cloud("conv", "x_fp16_conv_ff")]
    figure = plot_scatter(clouds)
    drawn = {
        axes.get_title("left"): [tuple(p) for c in axes.collections for p in np.asarray(c.get_offsets()) if p.size]
        for axes in figure.axes
    }
    points = [(1e-5, 2e-5), (1e-3, 1.5e-3)]
    assert sorted(set(drawn["matrix products"]) - {(0.0, 0.0)}) == points
    assert drawn["convolutions"].count(points[0]) == 1
    assert drawn["matrix products"].count(points[0]) == 2
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("table", "name", "kind"),
    [
        ("gemm", "venom_rtx3090_fp16_2:4_spatha", "2:4"), ("gemm", "x_t4_fp16_dense", "dense"),
        ("gemm", "x_t4_fp16_vnm_spatha", "vnm"), ("conv", "x_t4_fp16_conv_ff_winograd", "ff winograd"),
        ("vector", "x_t4_fp16_softmax", "softmax"),
    ],
)  # fmt: skip
def test_marks_say_what_was_measured(table, name, kind):
    assert what(cloud(table, name)) == kind


@pytest.mark.parametrize("gain", [0.0, 1.0, -0.5])
def test_a_map_of_any_speed_up(gain):
    sizes = np.array([64, 128, 256])
    speedup = 1 + gain * np.linspace(0, 1, 9).reshape(3, 3)
    figure = plot_speedup([Map("at k = 1", "n", "m", sizes, sizes, speedup, (128, 64))], "title", (1.1, 1.5))
    np.testing.assert_allclose(np.asarray(figure.axes[0].collections[0].get_array()).ravel(), speedup.ravel())
    assert png(figure).startswith(b"\x89PNG")
