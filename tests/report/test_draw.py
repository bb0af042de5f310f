"""Drawing into axes: what is drawn is what the data say, and data that cannot be drawn are refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import nmsim
from nmsim.errors import UnsupportedError
from nmsim.report import draw_result, draw_rows, draw_training, plots
from nmsim.report.columns import categories
from nmsim.report.figures import image, picture, save
from nmsim.report.speedups import speedup_rows
from nmsim.report.style import CAUSE_COLOURS
from nmsim.results.io import SavedResult
from nmsim.sparsity.mask import magnitude_mask
from tests.traces.recordings import recorded


@pytest.fixture
def axes():
    return picture().add_subplot()


@pytest.fixture(scope="module")
def result():
    work = nmsim.load_workload("resnet18", batch=8).training("bdwp", "2:8")
    return nmsim.simulate("sat_vcu1525", work)


@pytest.fixture
def rows():
    """Two machines, three patterns; the second machine is faster and draws more."""
    return pd.DataFrame({
        "machine": ["a", "a", "a", "b", "b", "b"], "pattern": ["2:8", "dense", "2:4"] * 2,
        "latency_s": [2.0, 4.0, 3.0, 1.0, 2.0, 1.5], "energy_j": [2.0, 4.0, 3.0, 3.0, 6.0, 4.5],
        "accuracy": [0.7, 0.8, 0.75] * 2, "speedup": [2.0, 1.0, 4 / 3] * 2,
    })  # fmt: skip


def test_layers_by_cause_sum_to_the_latency(axes, result):
    assert draw_result.draw_layers(axes, result, "cause") is axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1e3 * result.latency_s, rel=1e-9)
    seen = {CAUSE_COLOURS[name] for name, value in result.breakdown("cause")["latency_s"].items() if value}
    assert len({bar.get_facecolor() for bar in axes.patches}) == len(seen)


def test_an_unknown_split_is_refused(axes, result):
    with pytest.raises(UnsupportedError, match="did you mean cause"):
        draw_result.draw_layers(axes, result, "causes")


def test_energy_bars_sum_to_the_energy(axes, result):
    draw_result.draw_energy(axes, {"one": result, "saved": SavedResult.of(result)})
    assert axes.get_xlabel() == "energy [J]"
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(2 * result.energy_j, rel=1e-9)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "saved"]


def test_energy_that_is_not_known_is_refused(axes, result):
    saved = SavedResult.of(result)
    odd = SavedResult(**{**vars(saved), "breakdowns": {**saved.breakdowns, "component": {"mac": float("nan")}}})
    with pytest.raises(UnsupportedError, match="'odd' is not known"):
        draw_result.draw_energy(axes, {"odd": odd})


def test_speedup_goes_from_dense_to_sparse(axes, rows):
    draw_rows.draw_speedup(axes, rows, "machine")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["dense", "2:4", "2:8"]
    line = next(line for line in axes.lines if line.get_label() == "a")
    assert line.get_ydata().tolist() == pytest.approx([1.0, 4 / 3, 2.0])


def test_speedup_rows_are_ratios_of_latencies():
    model = nmsim.load_workload("resnet9", batch=4)
    found = speedup_rows(["sat_vcu1525"], model, ["2:8"], "bdwp")
    dense, sparse = (nmsim.simulate("sat_vcu1525", w) for w in (model.training(), model.training("bdwp", "2:8")))
    assert found["speedup"].tolist() == [pytest.approx(dense.latency_s / sparse.latency_s)]
    assert found["bound"].tolist() == [pytest.approx(3 / (1 + 2 * 0.25))]  # BDWP: FF and BP sparse, WU dense
    assert speedup_rows(["sat_vcu1525"], model, ["2:8"])["bound"].tolist() == [4.0]


def beaten(points, i):
    """Whether some other point is nowhere worse and somewhere better."""
    return any(np.all(p <= points[i]) and np.any(p < points[i]) for p in points)


@given(arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 6)))
def test_the_front_is_what_no_point_beats(points):
    front = draw_rows.front_in_order(*points.T)
    assert not any(beaten(points, i) for i in front)
    free = {tuple(points[i]) for i in range(len(points)) if not beaten(points, i)}
    assert {tuple(points[i]) for i in front} == free
    assert len(front) == len(free)  # of equal points one


def test_pareto_takes_the_better_direction_from_the_name(axes, rows):
    """Fast is good and accurate is good: b at each pattern, from 1 s and 70 % to 2 s and 80 %."""
    draw_rows.draw_pareto(axes, rows, "latency_s", "accuracy", "machine", "pattern")
    x, y = axes.lines[0].get_data()
    assert (x.tolist(), y.tolist()) == ([1.0, 1.5, 2.0], [0.7, 0.75, 0.8])
    assert axes.get_xlabel() == "latency_s (less is better)"
    assert axes.get_ylabel() == "accuracy (more is better)"


def test_a_front_where_more_of_both_is_better(axes):
    table = pd.DataFrame({"speedup": [1.0, 2.0, 1.5, 1.2], "accuracy": [0.9, 0.7, 0.8, 0.75]})
    draw_rows.draw_pareto(axes, table, "speedup", "accuracy")
    assert axes.lines[0].get_xdata().tolist() == [2.0, 1.5, 1.0]


def test_a_heat_map_has_a_cell_per_row(axes, rows):
    draw_rows.draw_heatmap(axes, rows.iloc[1:], "pattern", "machine", "latency_s")
    cells = axes.collections[0].get_array().reshape(2, 3)
    np.testing.assert_array_equal(cells.filled(np.nan), [[4.0, 3.0, np.nan], [2.0, 1.5, 1.0]])
    assert {text.get_text() for text in axes.texts} == {"4 s", "3 s", "2 s", "1.5 s", "1 s"}


def test_two_rows_for_one_cell_are_refused(axes, rows):
    with pytest.raises(UnsupportedError, match=r"rows 0 and 3 both have pattern 2:8 and accuracy 0.7.*machine"):
        draw_rows.draw_heatmap(axes, rows, "pattern", "accuracy", "energy_j")


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(["fast"] * 6, "no number in row 0: 'fast'"), ([1, 2, np.nan, 4, 5, 6], "no number in row 2: nan")],
)
def test_columns_that_are_no_numbers_are_refused(axes, rows, seconds, message):
    with pytest.raises(UnsupportedError, match=message):
        draw_rows.draw_pareto(axes, rows.assign(latency_s=seconds), "latency_s", "energy_j")


def test_columns_that_are_not_there_are_refused(axes, rows):
    with pytest.raises(UnsupportedError, match="did you mean energy_j"):
        draw_rows.draw_pareto(axes, rows, "latency_s", "energy")


def test_more_series_than_colours_are_refused(axes):
    table = pd.DataFrame({"pattern": ["2:4"] * 12, "speedup": 1.0, "machine": range(12)})
    with pytest.raises(UnsupportedError, match="12 values; a plot can tell 9"):
        draw_rows.draw_speedup(axes, table, "machine")


def test_categories_are_in_the_order_of_an_axis():
    assert categories(pd.Series(["1:8", "dense", "2:4", "1:2"])) == ["dense", "1:2", "2:4", "1:8"]
    assert categories(pd.Series([64, 8, 128])) == [8, 64, 128]
    assert categories(pd.Series(["ws", "os"])) == ["ws", "os"]


def test_training_curves_are_those_of_the_trace(axes):
    trace = recorded(steps=6)
    draw_training.draw_accuracy(axes, {"run": trace})
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(x, trace.evaluations["step"])
    np.testing.assert_allclose(y, 100 * trace.evaluations["test_accuracy"])


def test_mask_flips_are_per_step_of_their_interval(axes):
    """The recording says that the mask of step s flips s entries, measured after each step, in two layers."""
    trace = recorded(steps=4)
    draw_training.draw_flips(axes, {"run": trace})
    stairs = [patch.get_data() for patch in axes.patches]
    assert [data.values.tolist() for data in stairs] == [[0, 1, 2, 3]] * 2
    both = picture().add_subplot()
    draw_training.draw_flips(both, {"one": trace, "two": trace})
    assert [patch.get_data().values.tolist() for patch in both.patches] == [[0, 2, 4, 6]] * 2


def test_a_run_without_masks_says_so(axes):
    draw_training.draw_flips(axes, {"dense": recorded(recipe="dense", pattern="dense", steps=1)})
    assert "no masks" in axes.texts[0].get_text()


def test_the_picture_of_a_mask_is_the_mask(axes):
    values = np.random.default_rng(1).standard_normal((8, 16))
    draw_training.draw_mask(axes, values, "2:4")
    codes = axes.collections[0].get_array().reshape(8, 16)
    np.testing.assert_array_equal(codes > 0, magnitude_mask(values, "2:4"))
    np.testing.assert_array_equal(codes == 2, magnitude_mask(values, "2:4") & (values < 0))
    assert axes.get_xlabel() == "2:4 along the rows, density 0.5"
    with pytest.raises(UnsupportedError, match="matrix"):
        draw_training.draw_mask(axes, np.ones((2, 2, 4)), "2:4")


def test_pictures_show_themselves_and_are_the_same_each_time(rows, tmp_path):
    first, second = (plots.plot_speedup(rows, "machine") for _ in range(2))
    svg = image(first, "svg")
    assert svg == image(second, "svg")
    assert b"<dc:date>" not in svg
    assert first._repr_png_().startswith(b"\x89PNG")
    save(first, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(UnsupportedError, match=r"\.png or \.svg"):
        save(first, tmp_path / "a.pdf")
