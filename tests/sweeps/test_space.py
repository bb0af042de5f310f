"""Spaces: their points, constraints, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import NmsimError, SpecError, UnsupportedError
from nmsim.library import names
from nmsim.sweeps.points import Points
from nmsim.sweeps.space import as_space, check_size, read_space

FIXED = {"arch": "sat_vcu1525", "workload": "resnet18", "recipe": "bdwp"}
GRID = {"pattern": ["2:4", "2:8"], "arch.array.rows": [8, 16, 32]}


def table(**entries):
    numbers, columns = Points(as_space({"fixed": FIXED, "axes": GRID} | entries)).table(0, 10**6)
    return numbers, {name: np.array(c.values, dtype=object)[c.codes].tolist() for name, c in columns.items()}


def test_the_last_axis_of_a_grid_varies_fastest():
    numbers, columns = table()
    assert numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert columns["pattern"] == ["2:4"] * 3 + ["2:8"] * 3
    assert columns["arch.array.rows"] == [8, 16, 32] * 2


def test_points_keep_their_numbers_where_constraints_exclude_others():
    """rows x rows <= 256 excludes 32: points 2 and 5."""
    numbers, _ = table(where=[{"product": ["arch.array.rows", "arch.array.rows"], "at_most": 256}])
    assert numbers.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("constraint", "left"),
    [
        ({"field": "arch.array.rows", "at_least": 16}, [1, 2, 4, 5]),
        ({"field": "pattern", "unequal": "2:4"}, [3, 4, 5]),
        ({"field": "pattern", "equal": "2:4"}, [0, 1, 2]),
        ({"sum": ["arch.array.rows"], "at_most": "arch.array.rows"}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_constraints_compare_fields_with_values_and_with_fields(constraint, left):
    assert table(where=[constraint])[0].tolist() == left


def test_quantities_become_si_numbers_and_log_ranges_reach_both_ends():
    """10 to 1000 GB/s in 3 steps of a factor of 10."""
    axis = {"arch.memories.dram.bandwidth": {"from": "10 GB/s", "to": "1 TB/s", "steps": 3, "scale": "log"}}
    _, columns = table(axes=axis)
    values = columns["arch.memories.dram.bandwidth"]
    assert values == pytest.approx([1e10, 1e11, 1e12], rel=1e-12)
    assert (values[0], values[-1]) == (1e10, 1e12)


@pytest.mark.parametrize("method", ["random", "latin_hypercube", "sobol"])
def test_samples_are_drawn_the_same_in_pieces_and_stay_between_their_ends(method):
    axes = {"batch": {"from": 1, "to": 64}, "arch.clock": {"from": "1 GHz", "to": "2 GHz"}, "pattern": ["2:4", "2:8"]}
    points = Points(as_space({"fixed": FIXED, "axes": axes, "sample": {"method": method, "points": 100, "seed": 3}}))
    whole, pieces = points.table(0, 100)[1], [points.table(start, start + 30)[1] for start in (0, 30, 60, 90)]
    for name, column in whole.items():
        joined = [x for piece in pieces for x in np.array(piece[name].values, dtype=object)[piece[name].codes]]
        assert joined == np.array(column.values, dtype=object)[column.codes].tolist()
    assert whole["batch"].numbers.min() >= 1
    assert whole["batch"].numbers.max() <= 64
    assert whole["batch"].numbers.dtype.kind == "i"
    assert 1e9 <= whole["arch.clock"].numbers.min() <= whole["arch.clock"].numbers.max() <= 2e9


def test_a_latin_hypercube_has_one_point_in_each_stratum():
    axes = {"arch.clock": {"from": "1 GHz", "to": "2 GHz"}}
    points = Points(as_space({"fixed": FIXED, "axes": axes, "sample": {"method": "latin_hypercube", "points": 50}}))
    clock = points.table(0, 50)[1]["arch.clock"].numbers
    assert sorted(np.floor((clock - 1e9) / 2e7).astype(int)) == list(range(50))


def test_the_baseline_takes_the_values_of_the_machine_where_it_says_nothing():
    points = Points(as_space({"fixed": FIXED, "axes": GRID, "baseline": {"pattern": "dense"}}))
    base = {name: column.values[0] for name, column in points.baseline().items()}
    assert base == {**FIXED, "pattern": "dense", "arch.array.rows": 32}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"axes": {"patern": ["2:4"]}}, "did you mean pattern"),
        ({"axes": {"pattern": []}}, "0 points"),
        ({"axes": {"batch": {"from": 1, "to": 8}}}, "needs `steps`"),
        ({"fixed": {"arch": "sat_vcu1525"}}, "'workload' is missing"),
        ({"metrics": ["latency"]}, "did you mean latency_s"),
        ({"where": [{"field": "rows", "at_most": 3}]}, "unknown field 'rows'"),
        ({"where": [{"field": "pattern", "at_most": 3, "at_least": 2}]}, "one of at_most"),
    ],
)
def test_a_file_that_cannot_be_swept_is_refused_naming_what_there_is(entries, message):
    with pytest.raises(SpecError, match=message):
        as_space({"fixed": FIXED, "axes": GRID} | entries)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"arch.array.row": [8]}, "did you mean rows"),
        ({"arch.memories.dram.bandwith": ["1 GB/s"]}, "did you mean bandwidth"),
        ({"arch.memories.dram.bandwidth": ["1 GBs"]}, "unknown unit"),
        ({"arch.array.rows": [0]}, "greater than or equal to 1"),
        ({"arch.clock": {"from": "2 GHz", "to": "1 GHz", "steps": 2}}, "must rise"),
    ],
)
def test_paths_and_values_that_no_machine_has_are_refused(axis, message):
    with pytest.raises(NmsimError, match=message):
        Points(as_space({"fixed": FIXED, "axes": axis}))


def test_an_entry_of_a_list_of_the_machine_is_an_axis():
    _, columns = table(axes={"arch.array.dataflows[0]": ["os", "ws"]})
    assert columns["arch.array.dataflows[0]"] == ["os", "ws"]
    with pytest.raises(UnsupportedError, match="did you mean dataflows"):
        table(axes={"arch.array.dataflow[0]": ["os"]})


def test_a_space_too_large_says_how_many_points_and_which_axes_to_cut():
    axes = {"batch": {"from": 1, "to": 100000, "steps": 50000}, "seq_len": {"from": 1, "to": 10**6, "steps": 40000}}
    with pytest.raises(UnsupportedError, match=r"2,000,000,000 points.*batch \(50000\), seq_len \(40000\)"):
        check_size(as_space({"fixed": FIXED, "axes": axes}), 10**6)


@pytest.mark.parametrize("name", names("workloads/sweeps"))
def test_the_spaces_that_ship_can_be_read(name):
    points = Points(read_space(name))
    assert len(points.table(0, 1000)[0]) > 0
    assert points.space.name == name
