"""Energies per action: as cited at the nodes of the file, in between and beyond; each with its source."""

from __future__ import annotations

import re
import textwrap
from math import exp, hypot, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim import library
from nmsim.arch.load import load_arch
from nmsim.energy.account import table_of
from nmsim.energy.files import FOLDER, load_files
from nmsim.energy.table import energy_table
from nmsim.errors import NmsimError, SpecError, UnsupportedError

PJ = 1e-12
MACS = ("fp32", "fp16", "bf16", "int8", "tf32", "fp8", "int4")
DRAM = ["ddr3", "ddr4", "gddr6", "gddr6x", "hbm2", "hbm2e", "hbm3", "hbm3e", "lpddr4", "lpddr5"]


def approx_pj(value: float, digits: int = 12) -> object:
    return pytest.approx(value * PJ, rel=10.0**-digits)


def macs(node_m: float, *names: str) -> list[float]:
    table = energy_table(node_m, "hbm2")
    return [table.mac_j(name) for name in names]


def test_45_nm_is_horowitz_2014():
    """fp32: 3.7 + 0.9; fp16 with an fp32 sum: 1.1 + 0.9; int8 with an int32 sum: 0.2 + 0.1 (ISSCC 2014)."""
    assert macs(45e-9, "fp32", "fp16", "bf16", "int8") == [approx_pj(x) for x in (4.6, 2.0, 0.68 + 0.9, 0.3)]
    values = energy_table(45e-9, "ddr3").values
    assert values["vector", "op"].joules == approx_pj((3.7 + 0.9) / 2)
    assert values["reduction", "compare"].joules == approx_pj(0.4)
    assert values["registers", "bit"].joules == approx_pj(0.009)


def test_7_nm_is_jouppi_2021():
    """fp32: 1.31 + 0.38; fp16: 0.34 + 0.38; bf16: 0.21 + 0.38; int8: 0.07 + 0.03 (ISCA 2021, table 2)."""
    assert macs(7e-9, "fp32", "fp16", "bf16", "int8") == [approx_pj(x) for x in (1.69, 0.72, 0.59, 0.10)]


def test_narrow_types_follow_from_the_derivations_in_the_file():
    """At 7 nm: tf32 as fp16; fp8: 0.21/2 + 0.38; int4: 0.07/4 + 0.03."""
    assert macs(7e-9, "tf32", "fp8", "int4") == [approx_pj(x) for x in (0.72, 0.485, 0.0475)]


def test_16_nm_lies_between_45_and_7_nm():
    """With w = ln(45/16) / ln(45/7) = 0.55569, fp32 multiply is 3.7^(1-w) 1.31^w = 2.0781 and fp32 add 0.5574;
    fp16 multiply 0.5729. A register bit, known at 45 nm only: 0.009 (16/45)^0.57 = 0.004992."""
    table = energy_table(16e-9, "ddr4")
    assert table.mac_j("fp32") == approx_pj(2.0781 + 0.5574, 4)
    assert table.mac_j("fp16") == approx_pj(0.5729 + 0.5574, 4)
    assert table.values["registers", "bit"].joules == approx_pj(0.004992, 3)
    assert any("interpolated between" in line for line in table.assumptions)


@given(st.floats(min_value=2e-9, max_value=90e-9), st.floats(min_value=2e-9, max_value=90e-9))
def test_an_older_node_never_costs_less(one, other):
    new, old = (energy_table(node, "hbm2") for node in sorted((one, other)))
    slack = 1 + 1e-12
    assert all(new.mac_j(name) <= old.mac_j(name) * slack for name in MACS)
    assert new.sram_byte(2**20) <= old.sram_byte(2**20) * slack


@pytest.mark.parametrize(("node_m", "outermost", "shown"), [(4e-9, 5e-9, "4 nm"), (65e-9, 45e-9, "65 nm")])
def test_beyond_the_nodes_the_outermost_is_taken_and_said(node_m, outermost, shown):
    table, edge = energy_table(node_m, "hbm3"), energy_table(outermost, "hbm3")
    assert macs(node_m, *MACS) == macs(outermost, *MACS)
    assert any(shown in line and "outermost" in line for line in table.assumptions)
    assert not any("outermost" in line for line in edge.assumptions)


@pytest.mark.parametrize(
    ("kind", "pj_per_bit"), [("ddr3", 30.5), ("lpddr4", 8), ("hbm2", 6.25), ("hbm2e", 5.15), ("hbm3", 4.05)]
)
def test_dram_is_cited_per_bit_whatever_the_node(kind, pj_per_bit):
    assert energy_table(7e-9, kind).dram_byte == approx_pj(8 * pj_per_bit)
    assert energy_table(45e-9, kind).dram_byte == approx_pj(8 * pj_per_bit)


def test_an_unknown_dram_is_an_error_that_names_the_kinds():
    with pytest.raises(
        NmsimError, match=r"'dram', action 'read': unknown kind of DRAM 'hbm9'.*hbm2.*under `dram:`"
    ) as error:
        energy_table(7e-9, "hbm9")
    assert all(kind in str(error.value) for kind in DRAM)


def test_a_data_type_without_an_entry_is_an_error_that_names_the_types():
    with pytest.raises(NmsimError, match=r"'mac', action 'fp64': unknown data type 'fp64'.*fp32.*under `mac:`"):
        energy_table(7e-9, "hbm2").mac_j("fp64")


def test_an_action_without_a_value_is_an_error_that_says_where_to_add_it():
    with pytest.raises(UnsupportedError, match=r"'noc', action 'bit km'.*nearest: noc bit mm.*entries:.*asic"):
        energy_table(7e-9, "hbm2").value("noc", "bit km")


def test_assumptions_are_those_of_the_numbers_in_use():
    """45 nm with HBM2 rests on cited arithmetic but for bf16; 7 nm with DDR4 on memory."""
    cited = energy_table(45e-9, "hbm2").assumptions
    assert [line for line in cited if line.startswith("energy, 45 nm")] == [
        "energy, 45 nm: fp16 multiply at 45 nm x the ratio bf16/fp16 at 7 nm"
    ]
    assert not any(line.startswith("energy, 7 nm") for line in cited)
    recalled = energy_table(7e-9, "ddr4").assumptions
    assert any(line.startswith("energy, 7 nm: from memory of Jouppi") for line in recalled)
    assert any(line.startswith("energy, dram ddr4: ") for line in recalled)
    assert not any("energy, 45 nm" in line for line in recalled)


def test_a_gpu_reads_what_boards_were_measured_to_draw():
    """5.19 pJ per FLOP and 14.8 pJ per streamed bit of an A100 (7 nm); arithmetic as on any chip."""
    gpu, asic = (energy_table(7e-9, "hbm2", name) for name in ("gpu", "asic"))
    assert gpu.values["vector", "op"].joules == approx_pj(5.19)
    assert gpu.values["stream", "bit"].joules == approx_pj(14.8)
    assert gpu.mac_j("fp16") == asic.mac_j("fp16")
    assert ("stream", "bit") not in asic.values


def test_an_fpga_is_an_asic_times_the_gap_of_its_fabric():
    fpga, asic = (energy_table(16e-9, "ddr4", name) for name in ("fpga_xcvu9p", "asic"))
    assert fpga.mac_j("fp16") == pytest.approx(5 * asic.mac_j("fp16"))
    assert fpga.values["registers", "bit"].joules == pytest.approx(14 * asic.values["registers", "bit"].joules)
    assert fpga.sram.read_j(2**16) == pytest.approx(3 * asic.sram.read_j(2**16))
    assert fpga.dram_byte == asic.dram_byte


@pytest.mark.parametrize("name", library.names(FOLDER))
def test_every_entry_says_where_it_comes_from_with_unit_node_width_and_year(name):
    for file in load_files(name):
        for entry in [*file.entries, *file.dram.values(), *file.factors, *file.mac.values()]:
            assert len(entry.origins) == 1
        assert all(e.width > 0 and 1990 < e.date < 2100 and e.value > 0 for e in file.entries)


@pytest.mark.parametrize("name", library.names("arch_configs"))
def test_every_machine_of_the_library_has_energies(name):
    arch = load_arch(name)
    rates = arch.array.macs_per_cycle if arch.kind == "systolic" else arch.cores.macs_per_cycle
    assert all(table_of(arch).mac_j(dtype) > 0 for dtype in rates)


HEAD = "kind: energy_table\nversion: 1\nname: mine\nbase: asic\n"
GOOD = (
    "{component: noc, action: bit mm, node: 16 nm, width: 1, value: 0.1 pJ, uncertainty: 50 %, date: 2026, assumed: x}"
)


def written(tmp_path, entries: list[str]) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + "entries:\n" + textwrap.indent("\n".join(f"- {e}" for e in entries), "  "))
    return str(path)


def test_a_table_of_ones_own_replaces_what_it_has_and_keeps_the_rest(tmp_path):
    own = energy_table(16e-9, "ddr4", written(tmp_path, [GOOD]))
    assert own.values["noc", "bit mm"].joules == approx_pj(0.1)
    assert own.mac_j("fp16") == energy_table(16e-9, "ddr4").mac_j("fp16")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.1 pJ", "0.1", "needs a unit"),
        ("0.1 pJ", "-0.1 pJ", "must not be negative"),
        ("0.1 pJ", "0 pJ", "must be above 0"),
        ("50 %", "50", "per cent"),
        ("assumed: x", "assumed: x, source: y", "one of source"),
        (", assumed: x", "", "one of source"),
        ("16 nm", "16 pJ", "unknown unit"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_their_place(tmp_path, old, new, message):
    with pytest.raises(SpecError, match=rf"mine\.yaml:6:\d+: entries\[0\].*{message}"):
        energy_table(16e-9, "ddr4", written(tmp_path, [GOOD.replace(old, new)]))


def test_a_value_ten_thousand_times_its_neighbour_is_refused(tmp_path):
    slip = GOOD.replace("16 nm", "7 nm").replace("0.1 pJ", "60 nJ")
    with pytest.raises(SpecError, match=r"entries\[0\].value: noc, bit mm: 6e-08 J is 1e\+06 times"):
        energy_table(16e-9, "ddr4", written(tmp_path, [slip]))  # beside the base table's
    with pytest.raises(SpecError, match=r"entries\[1\].value: noc, bit mm: 6e-08 J is 6e\+05 times.*Is the unit right"):
        energy_table(16e-9, "ddr4", written(tmp_path, [GOOD, slip]))


ASIC = (library.locate(FOLDER, "asic")).read_text()


def without(tmp_path, pattern: str) -> str:
    """The path of asic.yaml without what `pattern` finds."""
    text, found = re.subn(pattern, "", ASIC, flags=re.MULTILINE)
    assert found
    (tmp_path / "bare.yaml").write_text(text)
    return str(tmp_path / "bare.yaml")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"^gated:\n(  .*\n)+", r"`gated:`.*'mac', actions 'gated …'; add it under `gated:` of .*bare\.yaml"),
        (r"^scaling:\n(  .*\n)+", r"`scaling:`, which brings actions.*add it under `scaling:` of .*bare\.yaml"),
        (r"^sram:\n(  .*\n)+", r"`sram:`, which gives.*'buffers', actions 'read' and 'write'; add it under `sram:`"),
        (r"^.*action: fp32 add.*\n", r"'arithmetic', action 'fp32 add'.*nearest: .*under `entries:` of .*bare\.yaml"),
    ],
)
def test_a_section_or_part_that_is_missing_is_never_a_silent_zero(tmp_path, pattern, message):
    with pytest.raises(UnsupportedError, match=message):
        energy_table(16e-9, "ddr4", without(tmp_path, pattern))


@pytest.mark.parametrize("component", ["registers", "select", "noc"])
def test_a_machine_that_needs_an_action_which_its_table_lacks_says_which_and_where(tmp_path, component):
    import nmsim

    path = without(tmp_path, rf"^.*component: {component},.*\n")
    arch = nmsim.load_arch("systolic_32x32", {"energy.table": path})
    with pytest.raises(UnsupportedError, match=rf"'{component}', action '.*add it under `entries:` of .*bare\.yaml"):
        nmsim.simulate(arch, nmsim.gemm(64, 64, 64, pattern="2:4", operand="B"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "dram: {ddr4: {value: 0 pJ/bit, uncertainty: 40 %, date: 2020, source: x}}",
            r"dram\.ddr4\.value: must be above",
        ),
        ("dram: {ddr4: {value: 20 pJ, uncertainty: 40 %, date: 2020, source: x}}", "unknown unit 'pJ'"),
        ("dram: {ddr4: {value: -2 pJ/bit, uncertainty: 40 %, date: 2020, source: x}}", "must not be negative"),
        (
            "dram: {ddr4: {value: 900 nJ/bit, uncertainty: 40 %, date: 2020, source: x}}",
            r"ddr4: 9e-07 J/bit is 4\.43e\+04",
        ),
        ("dram: {ddr9: {value: 900 nJ/bit, uncertainty: 40 %, date: 2020, source: x}}", "Is the unit right"),
        ("factors: [{component: noq, factor: 2, uncertainty: 40 %, date: 2020, source: x}]", "'noq'; did you mean noc"),
        ("factors: [{component: noc, factor: -2, uncertainty: 40 %, date: 2020, source: x}]", r"factors\[0\]\.factor"),
    ],
)
def test_other_sections_that_make_no_sense_are_refused(tmp_path, section, message):
    (tmp_path / "mine.yaml").write_text(HEAD + section + "\n")
    with pytest.raises(SpecError, match=message):
        energy_table(16e-9, "ddr4", str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("component: noc", "component: nok", "component: unknown component 'nok'; did you mean noc"),
        ("bit mm", "bit m", "action: unknown action of noc 'bit m'; did you mean bit mm"),
    ],
)
def test_an_entry_that_no_machine_asks_for_is_a_slip(tmp_path, old, new, message):
    """Taken as it stands it would leave the value of the base table in force, unsaid."""
    with pytest.raises(SpecError, match=message):
        energy_table(16e-9, "ddr4", written(tmp_path, [GOOD.replace(old, new)]))


def test_factors_and_values_that_err_apart_add_in_squares():
    """DSP slices at 7 nm: 60 % of the value and 80 % of the factor; ln 1.6 and ln 1.8 in squares are ln 2.122."""
    fpga = energy_table(7e-9, "ddr4", "fpga_xcvu9p").values["arithmetic", "fp32 add"]
    assert fpga.uncertainty == pytest.approx(exp(hypot(log(1.6), log(1.8))) - 1)
    assert fpga.uncertainty == pytest.approx(1.122, abs=1e-3)


def test_the_same_action_twice_at_a_node_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"entries\[1\]: noc, bit mm at this node stands in entries\[0\]"):
        energy_table(16e-9, "ddr4", written(tmp_path, [GOOD, GOOD]))
