"""Names that do not exist: which of those that do are told."""

from __future__ import annotations

from nmsim.errors import nearest, unknown

MACHINES = ("gh200", "h100_pcie", "h100_sxm5", "mi100", "v100_sxm2")


def test_names_that_begin_so_come_before_those_that_look_alike():
    assert nearest("H100", MACHINES) == ["h100_pcie", "h100_sxm5", "mi100"]
    assert nearest("mi1OO", MACHINES) == ["mi100"]
    assert nearest("v", MACHINES) == []


def test_all_names_are_told_where_they_are_few():
    assert unknown("machine", "v100", MACHINES).endswith("allowed: gh200, h100_pcie, h100_sxm5, mi100, v100_sxm2")
