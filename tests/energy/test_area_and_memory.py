"""Areas of units and machines, resources of an FPGA, and the law of SRAM."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nmsim
from nmsim.energy.area import (
    area_mm2,
    areas_mm2,
    fpga_use,
    lane_um2,
    largest_group,
    logic_um2,
    pruning_lane_um2,
    sram_mm2,
    unit_um2,
)
from nmsim.energy.table import energy_table
from nmsim.errors import UnsupportedError

NM = 1e-9


def test_a_dense_unit_by_hand():
    """fp16 at 45 nm: 1640 + 4184 for the multiplier and the FP32 adder, 2 x 16 + 32 latches of 4.522."""
    assert unit_um2("fp16", 45 * NM) == pytest.approx(1640 + 4184 + 64 * 4.522)


def test_selection_logic_by_hand():
    """Of 8: 7 x 16 switches of 1.862; 7 x 16 more latches for the group and 3 for the index, 4.522 each."""
    more = unit_um2("fp16", 45 * NM, 8) - unit_um2("fp16", 45 * NM)
    assert more == pytest.approx(112 * 1.862 + 115 * 4.522)


@given(st.integers(1, 15), st.sampled_from(["fp16", "int8", "fp32", "bf16"]), st.floats(5, 45))
def test_longer_groups_and_older_nodes_take_more(group, dtype, nm):
    assert unit_um2(dtype, nm * NM, group + 1) > unit_um2(dtype, nm * NM, group)
    assert unit_um2(dtype, nm * NM, group) >= unit_um2(dtype, nm * NM * 0.9, group) * (1 - 1e-12)


def test_logic_shrinks_with_the_density_of_transistors():
    """3.3 transistors per square micrometre at 45 nm and 91.2 at 7 nm."""
    assert logic_um2("fp32 add", 7 * NM) == pytest.approx(4184 * 3.3 / 91.2)


def test_a_buffer_by_hand():
    """1 MiB at 7 nm: 2^23 cells of 0.027, over 0.6, is 0.377 mm2."""
    assert sram_mm2(2**20, 7 * NM) == pytest.approx(2**23 * 0.027e-6 / 0.6)


def test_a_machine_is_the_sum_of_its_parts_and_a_gpu_its_die():
    array = nmsim.load_arch("systolic_32x32")
    parts = areas_mm2(array)
    assert set(parts) == {"array", "selection", "vector", "pruning", "update", "buffers"}
    assert area_mm2(array) == pytest.approx(sum(parts.values()))
    assert area_mm2(nmsim.load_arch("a100_sxm4_40gb")) == 826
    assert math.isnan(area_mm2(nmsim.load_arch("sat_vcu1525")))


def test_an_array_with_selection_logic_against_a_dense_one_by_hand():
    """vegeta_like, 512 units at 7 nm that pick out of 4: bf16 takes 900 + 4184 for its parts and 64 latches, fp16 1640
    + 4184: the larger counts. n:m adds 3 x 16 switches, and 3 x 16 + 2 latches; cells fill 0.7."""
    arch = nmsim.load_arch("vegeta_like")
    assert largest_group(arch) == 4
    shrink = 3.3 / 91.2 * 512 * 1e-6 / 0.7
    parts = areas_mm2(arch)
    assert parts["array"] == pytest.approx((1640 + 4184 + 64 * 4.522) * shrink)
    assert parts["selection"] == pytest.approx((48 * 1.862 + 50 * 4.522) * shrink)
    assert areas_mm2(nmsim.load_arch("tpu_v4_like"))["selection"] == 0


def test_lanes_by_hand():
    """At 45 nm: an FP32 lane 7700 + 4184 + 96 latches; a pruning lane for 8 keeps 8 values of 16 + 3 bits and compares
    them, 8 x (19 x 4.522 + 72)."""
    assert lane_um2(45 * NM) == pytest.approx(7700 + 4184 + 96 * 4.522)
    assert pruning_lane_um2(8, 45 * NM) == pytest.approx(8 * (19 * 4.522 + 72))


def test_sats_engines_take_area_as_custom_logic():
    """SORE and WUVE of SAT, without an FPGA: lanes x area of a lane over what cells fill; more lanes, more area."""
    arch = nmsim.load_arch("sat_vcu1525")
    parts, node = areas_mm2(arch), arch.energy.node
    group = largest_group(arch)
    assert parts["pruning"] == pytest.approx(arch.reduction_engine.lanes * pruning_lane_um2(group, node) * 1e-6 / 0.7)
    assert parts["update"] == pytest.approx(arch.update_engine.lanes * lane_um2(node) * 1e-6 / 0.7)


def test_more_units_take_more_area():
    small, large = (nmsim.load_arch("systolic_32x32", {"array.rows": rows}) for rows in (16, 32))
    assert areas_mm2(large)["array"] == pytest.approx(2 * areas_mm2(small)["array"])


def test_sat_fits_its_fpga_by_hand():
    """1024 units of 3 DSP and 64 lanes of 5 are 3392 of 6840; 10 MiB are 114 + 114 + 57 URAM of 36 KiB."""
    use = {u.resource: u for u in fpga_use(nmsim.load_arch("sat_vcu1525"))}
    assert (use["DSP"].used, use["DSP"].available) == (3392, 6840)
    assert use["URAM"].used == 2 * math.ceil(4 * 2**20 / 36864) + math.ceil(2 * 2**20 / 36864)
    assert all(u.fits for u in use.values())


def test_an_array_four_times_as_large_does_not_fit():
    big = nmsim.load_arch("sat_vcu1525", {"array.rows": 64, "array.columns": 64, "memories.c_buffer": "4 MiB"})
    use = {u.resource: u for u in fpga_use(big)}
    assert not use["DSP"].fits


def test_buffers_beyond_the_uram_spill_into_bram():
    """40 MiB: 1138 blocks of URAM, 178 beyond the 960, each 8 BRAM."""
    big = nmsim.load_arch("sat_vcu1525", {"memories.a_buffer": "40 MiB", "memories.b_buffer": "128 KiB"})
    use = {u.resource: u for u in fpga_use(big)}
    uram = math.ceil(40 * 2**20 / 36864) + math.ceil(2 * 2**20 / 36864)
    assert use["URAM"].used == 960
    assert use["BRAM36"].used == (uram - 960) * 8 + math.ceil(128 * 1024 / 4608)


def test_an_unknown_part_is_an_error():
    with pytest.raises(UnsupportedError, match=r"unknown FPGA part 'xcvu9'.*xcvu9p"):
        fpga_use(nmsim.load_arch("sat_vcu1525"), "xcvu9")


SIZE, WIDTH = st.floats(2**10, 2**24), st.floats(64, 1024)


@given(SIZE, SIZE, WIDTH, WIDTH, st.floats(5, 45), st.floats(5, 45))
def test_larger_wider_and_older_memories_cost_more(s1, s2, w1, w2, n1, n2):
    (s1, s2), (w1, w2), (n1, n2) = sorted((s1, s2)), sorted((w1, w2)), sorted((n1, n2))
    new, old = energy_table(n1 * NM, "ddr4").sram, energy_table(n2 * NM, "ddr4").sram
    slack = 1 + 1e-12
    assert new.read_j(s1, w1) <= old.read_j(s2, w2) * slack
    assert new.write_j(s1, w1) <= old.write_j(s2, w2) * slack
    assert new.leakage_w(s1) <= old.leakage_w(s2) * slack


def test_ports_low_power_cells_and_the_law_below_22_nm():
    """A second port adds half; 7 nm is (7/22)^0.487 of 22 nm; low-power cells leak a thousandth."""
    at22, at7 = (energy_table(n * NM, "ddr4").sram for n in (22, 7))
    assert at22.read_j(2**15, ports=2) == pytest.approx(1.5 * at22.read_j(2**15))
    assert at7.read_j(2**15) == pytest.approx(at22.read_j(2**15) * (7 / 22) ** 0.487)
    assert at22.leakage_w(2**15, low_power=True) < at22.leakage_w(2**15) / 1000


@pytest.mark.parametrize(("size", "width", "ports"), [(0, 64, 1), (1024, 0, 1), (1024, 64, 0)])
def test_memories_that_make_no_sense_are_refused(size, width, ports):
    with pytest.raises(UnsupportedError, match="an SRAM has"):
        energy_table(7 * NM, "ddr4").sram.read_j(size, width, ports)
