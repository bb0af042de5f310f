"""What `nmsim run`, `compare` and `check` say of energy."""

from __future__ import annotations

import json

import pytest

STEP = ("run", "sat_vcu1525", "resnet9", "--batch", "8", "--recipe", "bdwp", "--pattern", "2:8", "--steps", "1000")


def test_a_run_prints_its_energy_with_an_interval_where_it_goes_and_whether_it_fits(nmsim_):
    out = nmsim_(*STEP).out
    assert "Energy by component: " in out
    assert "9 of 10 draws of the table" in out
    assert "fits an xcvu9p (estimate): DSP 3,392 of 6,840" in out
    assert "on operands: " in out
    assert "cost: " not in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_price_and_a_carbon_intensity_are_printed_with_what_they_rest_on(nmsim_):
    """kWh = J/3.6e6 x 1.2; 0.30 a kWh; 400 g a kWh."""
    options = ("--price-per-kwh", "0.30", "--gco2-per-kwh", "400", "--pue", "1.2")
    out = " ".join(nmsim_(*STEP, *options).out.split())
    assert "at 3.6e+06 J a kWh, PUE 1.2, 0.3 a kWh, 400 gCO2e a kWh" in out
    data = json.loads(nmsim_(*STEP, *options, "--json").out)
    kwh = data["metrics"]["energy_j"] / 3.6e6 * 1.2
    assert data["cost"]["kwh"] == pytest.approx(kwh)
    assert data["cost"]["price"] == pytest.approx(0.3 * kwh)
    assert data["cost"]["kgco2e"] == pytest.approx(0.4 * kwh)


@pytest.mark.parametrize("options", [("--price-per-kwh", "-1"), ("--gco2-per-kwh", "x"), ("--pue", "1.2")])
def test_a_tariff_that_makes_no_sense_is_refused(nmsim_, options):
    assert nmsim_(*STEP, *options).code == 2


def test_a_saved_result_keeps_its_actions_and_their_energies(nmsim_):
    data = json.loads(nmsim_(*STEP, "--json").out)
    terms = data["energy"]["terms"]
    assert sum(t["joules"] for t in terms) == pytest.approx(data["metrics"]["energy_j"])
    assert all(t["joules"] == pytest.approx(t["count"] * t["joules_per_action"]) for t in terms)


def test_compare_says_whether_the_order_of_two_recipes_survives(nmsim_, tmp_path):
    dense = ("run", "sat_vcu1525", "resnet9", "--batch", "8", "--recipe", "dense", "--steps", "1000")
    for name, words in (("dense", dense), ("bdwp", STEP)):
        assert nmsim_(*words, "--no-plots", "-o", tmp_path / name).code == 0
    out = " ".join(nmsim_("compare", tmp_path / "dense", tmp_path / "bdwp").out.split())
    assert "Energy of bdwp over dense: 0." in out
    assert "the order survives: 100.0 % of draws agree" in out


def test_a_damaged_record_of_actions_is_refused(nmsim_, tmp_path):
    assert nmsim_(*STEP, "--no-plots", "-o", tmp_path / "r").code == 0
    file = tmp_path / "r" / "result.json"
    data = json.loads(file.read_text())
    data["energy"]["terms"][0]["joules"] = "many"
    file.write_text(json.dumps(data))
    found = nmsim_("compare", file, file)
    assert found.code == 2
    assert "'energy' is not a record of actions" in found.err


def test_a_table_is_checked_and_a_machine_with_a_wrong_one_refused(nmsim_):
    assert "energy table asic" in nmsim_("check", "asic").out
    found = nmsim_("run", "systolic_32x32", "resnet9", "--set", "energy.table=asik")
    assert found.code == 2
    assert "unknown energy table 'asik'; did you mean asic" in found.err


def test_explain_shows_a_table_at_every_node(nmsim_):
    """fp32 multiply is 3.7 pJ at 45 nm and 1.31 at 7; at 5 nm 0.9825 is known to 80 %: 0.546 to 1.77. DRAM has one."""
    lines = nmsim_("explain", "asic").out.splitlines()
    assert " ".join(lines[1].split()) == "pJ 45 nm 28 nm 16 nm 12 nm 7 nm 5 nm 90 % interval"
    row = next(line for line in lines if "fp32 multiply" in line)
    assert row.split()[3:] == ["3.7", "2.84", "2.08", "1.77", "1.31", "0.982", "(0.546–1.77)"]
    assert next(line for line in lines if "dram hbm2 " in line).split()[2:] == ["6.25", "(4.46–8.75)"]
    assert any("sram 64 KiB, 64 bit, read" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_run_tells_where_the_area_goes(nmsim_):
    out = nmsim_("run", "vegeta_like", "resnet9", "--pattern", "2:4").out
    assert "area (estimate, to a factor of two): " in out
    assert "selection " in out
