"""Energies per action: as cited at the nodes of the file, in between and beyond; each with its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim import library
from nmsim.arch.load import load_arch
from nmsim.energy import table as table_module
from nmsim.energy.table import action_table
from nmsim.errors import NmsimError
from nmsim.specfile import read

PJ = 1e-12
KIB, MIB = 2**10, 2**20
DRAM = ["ddr3", "ddr4", "gddr6", "gddr6x", "hbm2", "hbm2e", "hbm3", "hbm3e", "lpddr4"]


def approx_pj(value: float, digits: int = 12) -> object:
    return pytest.approx(value * PJ, rel=10.0**-digits)


def test_45_nm_is_horowitz_2014():
    """fp32: 3.7 + 0.9; fp16 with an fp32 sum: 1.1 + 0.9; int8 with an int32 sum: 0.2 + 0.1 (ISSCC 2014)."""
    table = action_table(45e-9, "ddr3")
    assert table.mac["fp32"] == approx_pj(4.6)
    assert table.mac["fp16"] == approx_pj(2.0)
    assert table.mac["bf16"] == approx_pj(0.68 + 0.9)
    assert table.mac["int8"] == approx_pj(0.3)
    assert table.vector_op == approx_pj((3.7 + 0.9) / 2)
    assert table.compare == approx_pj(0.4)


def test_7_nm_is_jouppi_2021():
    """fp32: 1.31 + 0.38; fp16: 0.34 + 0.38; bf16: 0.21 + 0.38; int8: 0.07 + 0.03 (ISCA 2021, table 2)."""
    table = action_table(7e-9, "hbm2")
    assert table.mac["fp32"] == approx_pj(1.69)
    assert table.mac["fp16"] == approx_pj(0.72)
    assert table.mac["bf16"] == approx_pj(0.59)
    assert table.mac["int8"] == approx_pj(0.10)


def test_narrow_types_follow_from_the_derivations_in_the_file():
    """At 7 nm: tf32 as fp16; fp8: 0.21/2 + 0.38; int4: 0.07/4 + 0.03."""
    mac = action_table(7e-9, "hbm2").mac
    assert mac["tf32"] == mac["fp16"]
    assert mac["fp8"] == approx_pj(0.485)
    assert mac["int4"] == approx_pj(0.0475)


def test_16_nm_lies_between_45_and_7_nm():
    """With w = ln(45/16) / ln(45/7) = 0.55569, fp32 multiply is 3.7^(1-w) 1.31^w = 2.0781 and fp32 add 0.5574;
    fp16 multiply 0.5729; one 64-bit access to 1 MiB 100^(1-w) 14^w = 33.54."""
    table = action_table(16e-9, "ddr4")
    assert table.mac["fp32"] == approx_pj(2.0781 + 0.5574, 4)
    assert table.mac["fp16"] == approx_pj(0.5729 + 0.5574, 4)
    assert table.sram_byte(MIB) == approx_pj(33.542 / 8, 4)
    assert any("interpolated between" in line for line in table.assumptions)


def test_5_nm_is_three_quarters_of_7_nm():
    five, seven = action_table(5e-9, "hbm3"), action_table(7e-9, "hbm3")
    assert five.mac == pytest.approx({name: 0.75 * energy for name, energy in seven.mac.items()})
    assert five.vector_op == pytest.approx(0.75 * seven.vector_op)
    assert [e for _, e in five.sram] == pytest.approx([0.75 * e for _, e in seven.sram])


def test_sram_energies_are_those_of_a_64_bit_access_over_8_bytes():
    """45 nm: 10, 20 and 100 pJ (Horowitz); 7 nm: 7.5, 8.5 and 14 pJ (Jouppi)."""
    sizes = (8 * KIB, 32 * KIB, MIB)
    assert [action_table(45e-9, "ddr3").sram_byte(s) for s in sizes] == [approx_pj(v / 8) for v in (10, 20, 100)]
    assert [action_table(7e-9, "hbm2").sram_byte(s) for s in sizes] == [approx_pj(v / 8) for v in (7.5, 8.5, 14)]


def test_sram_between_two_sizes_is_a_straight_line_of_logarithms():
    """16 KiB is the geometric middle of 8 and 32 KiB: sqrt(10 x 20) pJ at 45 nm."""
    assert action_table(45e-9, "ddr3").sram_byte(16 * KIB) == approx_pj(200**0.5 / 8)


def test_sram_is_constant_beyond_the_known_sizes():
    table = action_table(7e-9, "hbm2")
    assert table.sram_byte(64) == table.sram_byte(8 * KIB)
    assert table.sram_byte(128 * MIB) == table.sram_byte(MIB)


@given(st.floats(min_value=1, max_value=2**30), st.floats(min_value=1, max_value=2**30))
def test_a_larger_sram_never_costs_less(one, other):
    table = action_table(16e-9, "ddr4")
    small, large = sorted((one, other))
    assert table.sram_byte(small) <= table.sram_byte(large) * (1 + 1e-12)


@given(st.floats(min_value=2e-9, max_value=90e-9), st.floats(min_value=2e-9, max_value=90e-9))
def test_an_older_node_never_costs_less(one, other):
    new, old = (action_table(node, "hbm2") for node in sorted((one, other)))
    slack = 1 + 1e-12
    assert all(new.mac[name] <= old.mac[name] * slack for name in new.mac)
    assert new.sram_byte(MIB) <= old.sram_byte(MIB) * slack


@pytest.mark.parametrize(("node_m", "outermost", "shown"), [(4e-9, 5e-9, "4 nm"), (65e-9, 45e-9, "65 nm")])
def test_beyond_the_nodes_the_outermost_is_taken_and_said(node_m, outermost, shown):
    table, edge = action_table(node_m, "hbm3"), action_table(outermost, "hbm3")
    assert table.mac == edge.mac
    assert any(shown in line and "outermost" in line for line in table.assumptions)
    assert not any("outermost" in line for line in edge.assumptions)


@pytest.mark.parametrize(
    ("kind", "pj_per_bit"), [("ddr3", 30.5), ("lpddr4", 8), ("hbm2", 6.25), ("hbm2e", 5.15), ("hbm3", 4.05)]
)
def test_dram_is_cited_per_bit_and_given_per_byte(kind, pj_per_bit):
    assert action_table(7e-9, kind).dram_byte == approx_pj(8 * pj_per_bit)


def test_dram_does_not_depend_on_the_node_of_the_logic():
    assert action_table(45e-9, "hbm2").dram_byte == action_table(7e-9, "hbm2").dram_byte


def test_an_unknown_dram_is_an_error_that_names_the_kinds():
    with pytest.raises(NmsimError, match=r"dram, action read: unknown kind of DRAM 'hbm9'.*hbm2") as error:
        action_table(7e-9, "hbm9")
    assert all(kind in str(error.value) for kind in DRAM)


def test_a_data_type_without_an_entry_is_an_error_that_names_the_types():
    table = action_table(7e-9, "hbm2")
    assert table.mac_j("fp16") == table.mac["fp16"]
    with pytest.raises(NmsimError, match=r"arithmetic, action mac: unknown data type 'fp64'.*fp32"):
        table.mac_j("fp64")


def test_assumptions_are_those_of_the_numbers_in_use():
    """45 nm with HBM2 rests on cited figures but for bf16 and the narrow types; 7 nm with DDR4 on memory."""
    cited = [line for line in action_table(45e-9, "hbm2").assumptions if line.startswith("energy, ")]
    assert [line.split(":")[0] for line in cited] == ["energy, 45 nm", *(f"energy, mac {t}" for t in NARROW)]
    recalled = action_table(7e-9, "ddr4").assumptions
    assert any(line.startswith("energy, 7 nm: from memory of Jouppi") for line in recalled)
    assert any(line.startswith("energy, dram ddr4: ") for line in recalled)
    assert not any("45 nm" in line for line in recalled)
    assert any("register files" in line for line in recalled)


NARROW = ["tf32", "fp8", "int4"]


def test_a_table_is_made_once():
    assert action_table(7e-9, "hbm2") is action_table(7e-9, "hbm2")


def test_every_entry_of_the_file_has_a_source_or_is_assumed():
    """Reading the file raises otherwise; this walks it by itself: each number has a word beside or above it."""
    missing: list[str] = []

    def walk(entry: object, path: str, known: bool) -> None:
        if isinstance(entry, dict):
            known = known or "source" in entry or "assumed" in entry
            for key, value in entry.items():
                walk(value, f"{path}/{key}", known or key in ("source", "assumed", "multiply", "add"))
        elif not known:
            missing.append(path)

    data = read(table_module._FILE).data
    assert isinstance(data, dict)
    for section in ("nodes", "mac", "dram"):
        walk(data[section], section, False)
    assert missing == []
    assert set(data["dram"]) == set(DRAM)


@pytest.mark.parametrize("name", library.names("arch_configs"))
def test_every_machine_of_the_library_has_energies(name):
    arch = load_arch(name)
    table = action_table(arch.energy.node, arch.energy.dram)
    rates = arch.array.macs_per_cycle if arch.kind == "systolic" else arch.cores.macs_per_cycle
    assert all(table.mac_j(dtype) > 0 for dtype in rates)
