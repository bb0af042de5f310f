"""The adapter to hwcomponents: against a family made by hand, and against the real one where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

import nmsim
from nmsim.energy import hwcomponents as adapter
from nmsim.energy.table import energy_table
from nmsim.errors import UnsupportedError

INSTALLED = importlib.util.find_spec("hwcomponents") is not None


@pytest.fixture
def family(monkeypatch):
    """A family whose actions cost 0.2 pJ a bit."""
    module = ModuleType("hwcomponents")

    def get_action_cost(name, attributes, action, arguments):
        if name == "HBM3" and attributes["width"] < 1024:
            raise RuntimeError("too narrow\nand more")
        assert arguments == {}
        assert ("tech_node" in attributes) == name.startswith("Aladdin")
        return SimpleNamespace(energy=2e-13 * attributes["width"])

    module.get_action_cost = get_action_cost
    monkeypatch.setitem(sys.modules, "hwcomponents", module)
    monkeypatch.setattr(adapter, "version", lambda package: "9.9")


def test_a_table_by_hand(family, tmp_path):
    """8 bits: 1.6 pJ, 32: 6.4; of DRAM a bit, not an access: 0.2. What the family lacks is that of the base."""
    adapter.write_table(tmp_path / "t.yaml", "22 nm", uncertainty="60 %")
    found, base = (energy_table(22e-9, "hbm3", name) for name in (str(tmp_path / "t.yaml"), "asic"))
    assert found.values["arithmetic", "int8 add"].joules == pytest.approx(1.6e-12)
    assert found.values["arithmetic", "int32 multiply"].joules == pytest.approx(6.4e-12)
    assert found.values["registers", "bit"].joules == pytest.approx(0.2e-12)
    assert found.values["registers", "bit"].uncertainty == pytest.approx(0.6)
    assert found.values["dram", "read"].joules == pytest.approx(0.2e-12)
    assert found.values["mac", "fp16"] == base.values["mac", "fp16"]
    assert found.sram == base.sram
    assert "AladdinAdder.add of hwcomponents-library 9.9" in (tmp_path / "t.yaml").read_text()


def test_a_machine_runs_on_it(family, tmp_path):
    adapter.write_table(tmp_path / "t.yaml", "16 nm")
    arch = nmsim.load_arch("systolic_32x32", {"energy.table": str(tmp_path / "t.yaml")})
    result = nmsim.simulate(arch, nmsim.gemm(64, 64, 64))
    assert result.account.costs["registers", "bit", "a"].joules == pytest.approx(0.2e-12)


def test_what_a_model_does_not_answer_is_said(family):
    with pytest.raises(UnsupportedError, match=r"no energy of HBM3 \(hwcomponents-cacti\) at 22 nm: too narrow$"):
        adapter.energy_j(adapter.Pick("dram", "hbm3", "HBM3", 64, "read", adapter.CACTI), 22e-9)


def test_without_the_family_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "hwcomponents", None)
    with pytest.raises(UnsupportedError, match=r"on Python 3\.12 or newer: pip install 'nmsim\[hwcomponents\]'"):
        adapter.write_table(tmp_path / "t.yaml", "22 nm")
    assert not (tmp_path / "t.yaml").exists()


@pytest.mark.skipif(not INSTALLED, reason="hwcomponents is not installed")
def test_the_real_family(tmp_path):
    """At 40 nm the library's own figures: 0.21 pJ for a 32-bit addition, 12.68 for a multiplication, 0.009 for a
    register's bit; DRAM per bit as its table has it."""
    adapter.write_table(tmp_path / "t.yaml", "40 nm")
    found = {kind: energy_table(40e-9, kind, str(tmp_path / "t.yaml")) for kind in ("ddr3", "lpddr4", "hbm2", "hbm3")}
    values = found["ddr3"].values
    assert values["arithmetic", "int32 add"].joules == pytest.approx(0.21e-12, rel=1e-3)
    assert values["arithmetic", "int32 multiply"].joules == pytest.approx(12.68e-12, rel=1e-3)
    assert values["registers", "bit"].joules == pytest.approx(0.009e-12, rel=1e-3)
    per_bit = {kind: table.values["dram", "read"].joules * 1e12 for kind, table in found.items()}
    assert per_bit == pytest.approx({"ddr3": 70, "lpddr4": 8, "hbm2": 6.25, "hbm3": 4.05})
    arch = nmsim.load_arch("systolic_32x32", {"energy.table": str(tmp_path / "t.yaml"), "energy.dram": "hbm3"})
    assert nmsim.simulate(arch, nmsim.gemm(64, 64, 64)).energy_j > 0
