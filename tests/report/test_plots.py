"""Plots: the bars sum to the result, the points lie under the roofs, the image is whole."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.report import plots
from nmsim.report.layers import Layers, starred
from nmsim.report.roofline import Roofline
from nmsim.results.io import SavedResult


@pytest.fixture(scope="module")
def results():
    model = nmsim.load_workload("resnet18", batch=8)
    return [nmsim.simulate("sat_vcu1525", w) for w in (model.training(), model.training("bdwp", "2:8"))]


@pytest.fixture(scope="module")
def transformer():
    return nmsim.simulate("a100_sxm4_40gb", nmsim.load_workload("vit_b16").inference("2:4"))


def bars(axes):
    return sum(patch.get_width() for patch in axes.patches)


def test_the_bars_sum_to_the_latency(results):
    figure = plots.plot_latency(results[1])
    axes = figure.axes[0]
    assert axes.get_xlabel() == "latency [ms]"
    assert bars(axes) == pytest.approx(1e3 * results[1].latency_s, rel=1e-9)
    assert len(axes.get_yticks()) == plots.LAYERS_SHOWN + 1


def test_repeated_blocks_stand_together(transformer):
    """ViT-B/16 has 12 blocks: their layers cost the same, so each is one bar of 12."""
    layers = Layers.of(transformer)
    assert any(name.endswith("(12x)") for name in layers.names)
    assert sum(map(len, layers.members)) == len(transformer.workload.layers)
    assert layers.seconds.sum() == pytest.approx(transformer.latency_s, rel=1e-9)
    assert starred("blocks.3.mlp.0") == "blocks.*.mlp.0"


@pytest.mark.parametrize("which", [0, 1])
def test_points_lie_under_the_roofs(results, which):
    roof = Roofline.of(results[which])
    assert np.all(roof.rate <= roof.sparse * (1 + 1e-9))
    assert np.all(roof.rate <= roof.intensity * roof.bandwidth * (1 + 1e-9))
    assert roof.share.sum() == pytest.approx(1.0)


def test_the_sparse_roof_is_that_of_the_sparsest_pattern_executed(results):
    """1,024 units at 200 MHz: 409.6 GFLOP/s dense, and four times that at 2:8."""
    dense, sparse = map(Roofline.of, results)
    assert (dense.mode, sparse.mode) == ("", "2:8")
    assert dense.dense == dense.sparse == pytest.approx(409.6e9)
    assert sparse.sparse == pytest.approx(4 * 409.6e9)


def test_a_comparison_takes_results_and_saved_ones(results):
    mixed = [results[0], SavedResult.of(results[1])]
    figure = plots.plot_comparison(mixed, ["dense", "bdwp"])
    for axes in figure.axes:
        heights = sum(patch.get_height() for patch in axes.patches)
        assert heights == pytest.approx(1e3 * sum(r.latency_s for r in results), rel=1e-9)


def test_images_are_whole_and_no_style_leaks(results, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.save(plots.plot_roofline(results[1]), tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["roofline.png"]
    assert dict(mpl.rcParams) == before


def test_work_without_products_has_a_roofline(results):
    """Element-wise work alone: roofs, no points."""
    work = results[0].workload
    vector = nmsim.simulate("sat_vcu1525", work.select(~work.gemms))
    roof = Roofline.of(vector)
    assert len(roof.rate) == 0
    assert roof.dense > 0
    plots.png(plots.plot_roofline(vector))


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [figure.get_suptitle()]


def test_a_comparison_of_unlike_work_has_no_speed_up(results):
    other = nmsim.simulate("sat_vcu1525", nmsim.load_workload("resnet18", batch=4).training())
    assert "faster" in "".join(texts(plots.plot_comparison(results, ["dense", "bdwp"])))
    unlike = "".join(texts(plots.plot_comparison([results[0], other], ["a", "b"])))
    assert "faster" not in unlike
    assert "they differ in batch" in unlike


def test_every_stage_of_a_comparison_is_in_the_legend(results):
    panel = plots.plot_comparison(results, ["dense", "bdwp"]).axes[0]
    named = [text.get_text() for text in panel.get_legend().get_texts()]
    assert {"PRUNE", "UPDATE"} <= set(named)


def test_a_rest_that_would_dwarf_the_bars_is_said_in_words():
    """200 products of one size: 25 have a bar, 175 together are 175 times as long as each."""
    sizes = {"m": [64] * 200, "n": [64] * 200, "k": [64] * 200, "name": [f"op{i}x" for i in range(200)]}
    figure = plots.plot_latency(nmsim.simulate("sat_vcu1525", nmsim.gemms(sizes)))
    assert len(figure.axes[0].get_yticks()) == plots.LAYERS_SHOWN
    assert "not shown: 175 others" in figure.axes[0].get_xlabel()


def test_names_in_any_script_can_be_drawn():
    one = nmsim.gemms({"m": [64], "n": [64], "k": [64], "name": ["层一"]})
    assert plots.png(plots.plot_latency(nmsim.simulate("sat_vcu1525", one))).startswith(b"\x89PNG")
