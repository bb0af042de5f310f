"""The course of a run in words: phases, what is pruned, shares, and from when on zeros are skipped."""

from __future__ import annotations

import pytest

from nmsim.arch.load import load_arch
from nmsim.engines.run import simulate
from nmsim.report.course import course_text, first_sparse_step
from nmsim.results.result import Result
from nmsim.workloads.load import load_workload


def run(arch: str, recipe: str, pattern: str, batch: int = 2, **options) -> Result:
    work = load_workload("resnet9", batch=batch).training(recipe, pattern, **options)
    return simulate(load_arch(arch), work)


def cells(text: str) -> list[list[str]]:
    return [[cell for cell in line.strip().split("  ") if cell] for line in text.splitlines()]


def test_phases_of_a_decay():
    """Mask decay of 1000 steps: dense up to 10 %, fading up to 60 %, sparse after that, in 40 % of the steps."""
    result = run("sat_vcu1525", "mask_decay", "2:8", steps=1000)
    *rows, last = course_text(result).splitlines()
    found = [row[:5] for row in cells("\n".join(rows[2:]))]
    assert found == [
        ["dense", "0 to 99", "dense", "dense", "dense"],
        ["soft", " 100 to 599", "dense", "dense", "dense"],
        ["sparse", " 600 to 999", "weight 2:8", "weight 2:8 along n", "dense"],
    ] or [[x.strip() for x in row] for row in found] == [
        ["dense", "0 to 99", "dense", "dense", "dense"],
        ["soft", "100 to 599", "dense", "dense", "dense"],
        ["sparse", "600 to 999", "weight 2:8", "weight 2:8 along n", "dense"],
    ]
    assert last == "  Zeros are skipped from step 600 on, in 40.0 % of the steps."
    parts = result.breakdown("phase")["share"]
    assert [row[-1].strip() for row in cells("\n".join(rows[2:]))] == [f"{100 * share:.1f} %" for share in parts]


def test_a_pattern_that_the_machine_does_not_have():
    """An A100 skips 2:4, where products are large enough: of frames 7:8, 4:8, 2:8 and 1:8 those from 2:8 on, half of
    the run."""
    assert first_sparse_step(run("a100_sxm4_80gb", "sdgf_stepwise", "1:8", batch=256, steps=1000)) == 500
    dense = run("a100_sxm4_80gb", "srste", "3:4", steps=10)
    assert first_sparse_step(dense) is None
    assert "No step has a product of which this machine skips zeros." in course_text(dense)


def test_gradients_and_many_patterns():
    """SDGP prunes the gradient of BP; SRigL has a fan-in of its own in each layer."""
    assert "gradient 2:8" in course_text(run("sat_vcu1525", "sdgp", "2:8", steps=4))
    assert "weight, " in course_text(run("v100_sxm2", "srigl", "unstructured:0.1", steps=1000))


@pytest.mark.parametrize("options", [{}, {"steps": 1}])
def test_one_step_and_an_inference_have_no_course(options):
    assert course_text(run("sat_vcu1525", "bdwp", "2:8", **options)) == ""
    assert course_text(run("sat_vcu1525", "inference", "2:8")) == ""
