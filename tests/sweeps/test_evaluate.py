"""Rows: each is what simulate() says of its point, whatever was evaluated together."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.arch.fleet import take, watched, with_numbers
from nmsim.arch.load import load_arch
from nmsim.engines import analytic
from nmsim.sweeps.evaluate import evaluate, model_work
from nmsim.sweeps.fleets import FIGURES
from nmsim.sweeps.machines import leaf
from nmsim.sweeps.points import Points
from nmsim.sweeps.space import PATH, as_space

ROUNDING = 1e-14
"""Sums over ops are taken in another order than in simulate(): a few last bits."""


def rows_and_results(entries, count=12, metrics=tuple(FIGURES)):
    """The rows of a space, and simulate() of some of its points, whose machine is read from its file each time."""
    space = as_space({**entries, "metrics": list(metrics)})
    numbers, columns = Points(space).table(0, 10**6)
    rows = evaluate(space, columns)
    for row in np.random.default_rng(1).permutation(len(numbers))[:count].tolist():
        point = {name: np.array(c.values, dtype=object)[c.codes[row]] for name, c in columns.items()}
        yield rows, row, lambda point=point: single(space, point)


def single(space, point):
    paths = {name.removeprefix(PATH): value for name, value in point.items() if name.startswith(PATH)}
    numeric = {path for path in paths if leaf(point["arch"], path) is not None}
    arch = load_arch(point["arch"], {path: value for path, value in paths.items() if path not in numeric})
    arch = with_numbers(arch, {path: paths[path] for path in numeric})
    work = {name: value for name, value in point.items() if name != "arch" and not name.startswith(PATH)}
    return nmsim.simulate(arch, nmsim.gemm(**work) if space.products else model_work(**work))


GRID = {
    "fixed": {"arch": "sat_vcu1525", "workload": "resnet18_64_s3", "batch": 4},
    "axes": {
        "recipe": ["bdwp", "srste"],
        "pattern": ["2:4", "2:8"],
        "arch.array.rows": [8, 32],
        "arch.array.count": [1, 2],
        "arch.array.dataflows": ["[os]", "[os, ws]"],
        "arch.memories.dram.bandwidth": ["5 GB/s", "50 GB/s"],
        "arch.vector.lanes": [8, 64],
        "arch.sparsity.weights": ["pregenerate", "inline"],
        "arch.energy.static": ["0 W", "7 W"],
    },
}


def gpu(arch):
    axes = {
        "batch": {"from": 1, "to": 64, "scale": "log"},
        "pattern": ["dense", "2:4"],
        "arch.clock": {"from": "0.5 GHz", "to": "2 GHz"},
        "arch.memories.l2.size": {"from": "1 MiB", "to": "80 MiB", "scale": "log"},
        "arch.memories.dram.bandwidth": {"from": "100 GB/s", "to": "4 TB/s", "scale": "log"},
        "arch.launch.floor": {"from": "1 us", "to": "10 us"},
    }
    sample = {"method": "sobol", "points": 40, "seed": 1}
    return {"fixed": {"arch": arch, "workload": "vit_cifar"}, "axes": axes, "sample": sample}


@pytest.mark.parametrize("entries", [GRID, gpu("a100_sxm4_80gb"), gpu("h100_sxm5")])
def test_rows_of_models_are_those_of_simulate(entries):
    for rows, row, simulated in rows_and_results(entries):
        assert rows.errors == [""]
        result = simulated()
        for name in FIGURES:
            assert rows.metrics[name][row] == pytest.approx(result.metric(name), rel=ROUNDING)


@pytest.mark.parametrize(
    "arch", ["sat_vcu1525", "systolic_32x32", "a100_sxm4_80gb", "h100_sxm5_500w", "epyc_zen4_2core"]
)
def test_rows_of_products_are_those_of_simulate_to_the_last_bit(arch):
    axes = {x: {"from": 1, "to": 3000, "scale": "log"} for x in "mnk"}
    axes |= {"arch.clock": {"from": "0.2 GHz", "to": "3 GHz"}, "pattern": ["dense", "2:4", "1:8"]}
    dtype = "fp16" if arch != "epyc_zen4_2core" else "fp32"
    entries = {"fixed": {"arch": arch, "dtype": dtype}, "axes": axes, "sample": {"method": "random", "points": 300}}
    for rows, row, simulated in rows_and_results(entries, 40):
        assert rows.errors == [""]
        result = simulated()
        for name in FIGURES:
            assert rows.metrics[name][row] == result.metric(name)


@pytest.mark.parametrize("arch", ["sat_vcu1525", "systolic_32x32"])
def test_products_are_evaluated_once_for_machines_that_differ_in_their_lanes(arch, monkeypatch):
    """Though the energy of wires goes by the area of all: 8 widths of the lanes cost no more products than one."""
    evaluated = []

    def counting(machine, work, *args, **options):
        evaluated.append(int(work.gemms.sum()))
        return costs(machine, work, *args, **options)

    costs = analytic.costs
    monkeypatch.setattr(analytic, "costs", counting)
    fixed = {"arch": arch, "workload": "resnet18_64_s3", "recipe": "bdwp", "pattern": "2:4"}
    rows, products = {}, {}
    for lanes in ([8], [8, 16, 24, 32, 40, 48, 56, 64]):
        space = as_space({"fixed": fixed, "axes": {"arch.vector.lanes": lanes, "arch.array.rows": [16, 32, 64]}})
        evaluate(space, Points(space).table(0, 24)[1])  # tries which numbers may be arrays, once
        evaluated.clear()
        rows[len(lanes)], products[len(lanes)] = evaluate(space, Points(space).table(0, 24)[1]), sum(evaluated)
    assert products[1] == products[8] > 0
    energies = rows[8].metrics["energy_j"]
    assert (energies[:3] == rows[1].metrics["energy_j"]).all()
    assert len(np.unique(energies)) == 24


def test_a_point_that_fails_tells_why_and_stops_no_other():
    """Rows of 1024 need 1024 x 32 x 4 turns x 4 B = 512 KiB of half of c_buffer: too much for one of 512 KiB."""
    axes = {
        "pattern": ["2:4", "nonsense"],
        "arch.array.rows": [32, 1024],
        "arch.memories.c_buffer": ["512 KiB", "2 MiB"],
    }
    space = as_space({"fixed": {"arch": "sat_vcu1525", "workload": "resnet9", "recipe": "bdwp"}, "axes": axes})
    rows = evaluate(space, Points(space).table(0, 8)[1])
    errors = [rows.errors[code] for code in rows.error]
    assert [bool(text) for text in errors] == [False, False, True, False, True, True, True, True]
    assert "smallest tile" in errors[2]
    assert "not a pattern" in errors[4]
    assert np.isnan(rows.metrics["latency_s"][2])
    assert np.isfinite(rows.metrics["latency_s"][[0, 1, 3]]).all()


def test_products_that_there_cannot_be_fail_alone():
    space = as_space(
        {"fixed": {"arch": "a100_sxm4_80gb", "n": 64, "k": 64}, "axes": {"m": [64, 0, 128], "dtype": ["fp16", "fp7"]}}
    )
    rows = evaluate(space, Points(space).table(0, 6)[1])
    assert [bool(rows.errors[code]) for code in rows.error] == [False, True, True, True, False, True]


def test_a_fleet_of_rows_is_the_machines_of_these_rows():
    arch = load_arch("sat_vcu1525")
    fleet = with_numbers(arch, {"array.rows": np.array([8, 16, 32]), "clock": np.array([1e9, 2e9, 3e9])})
    some = take(fleet, np.array([2, 0]))
    assert some.array.rows.tolist() == [32, 8]
    assert some.clock.tolist() == [3e9, 1e9]
    assert take(arch, np.array([0])) is arch


def test_watching_tells_the_numbers_that_were_read():
    reads: set[str] = set()
    machine = watched(load_arch("sat_vcu1525"), reads)
    assert isinstance(machine, type(load_arch("sat_vcu1525")))
    assert machine.memories.dram.bandwidth == 25.6e9
    assert reads == {"memories", "memories.dram", "memories.dram.bandwidth"}
