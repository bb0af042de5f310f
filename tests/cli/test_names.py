"""`nmsim list` and `nmsim explain`: every name there is, in words, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

import pytest

from nmsim import library
from nmsim.cli.listing import FORMAT_MEANINGS, LISTS
from nmsim.energy.account import COMPONENTS
from nmsim.engines.timing import CAUSES
from nmsim.results.metrics import METRICS
from nmsim.workloads.optable import DTYPES, FORMATS, STAGES

NAMES = {
    "arch": library.names("arch_configs"), "workloads": library.names("workloads"),
    "recipes": library.names("workloads/recipes"), "sweeps": library.names("workloads/sweeps"),
    "metrics": METRICS, "causes": CAUSES, "components": COMPONENTS, "formats": FORMATS, "dtypes": DTYPES,
    "training": library.names("workloads/training"), "energy": library.names("arch_configs/energy"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_list_has_every_name(nmsim_, kind):
    rows = json.loads(nmsim_("list", kind, "--json").out)
    assert [row["name"] for row in rows] == list(NAMES[kind])
    table = nmsim_("list", kind)
    assert (table.code, table.err) == (0, "")
    assert max(map(len, table.out.splitlines())) <= 100
    assert len(list(csv.DictReader(io.StringIO(nmsim_("list", kind, "--csv").out)))) == len(rows)


def test_every_list_is_tested():
    assert {*NAMES, "assumptions"} == set(LISTS)
    assert tuple(FORMAT_MEANINGS) == FORMATS


def test_peaks_are_those_of_the_machines(nmsim_):
    """A100: 108 cores x 1024 fp16 multiply-accumulates x 1.41 GHz = 155.9 TMAC/s."""
    rows = {row["name"]: row for row in json.loads(nmsim_("list", "arch", "--json").out)}
    assert rows["a100_sxm4_40gb"]["peak_mac_per_s"] == pytest.approx(108 * 1024 * 1.41e9)
    assert rows["sat_vcu1525"]["peak_mac_per_s"] == pytest.approx(32 * 32 * 200e6)


def test_assumptions_are_those_of_the_machine(nmsim_):
    rows = json.loads(nmsim_("list", "assumptions", "sat_vcu1525", "--json").out)
    assert {"number": "clock", "known": "assumed", "why": "from memory, not verified"} in rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["archs"], "unknown list 'archs'; did you mean arch"),
        ([], "required"),
        (["assumptions"], "needs a machine"),
        (["assumptions", "sat"], "unknown architecture 'sat'"),
        (["recipes", "bdwp"], "takes no further argument"),
    ],
)
def test_bad_lists_are_refused(refused, words, message):
    assert message in refused("list", *words)


@pytest.mark.parametrize("name", [*METRICS, *CAUSES, *COMPONENTS])
def test_every_name_is_explained(nmsim_, name):
    outcome = nmsim_("explain", name)
    assert outcome.code == 0
    for part in ("is ", "unit ", "formula "):
        assert part in outcome.out


def test_a_name_with_two_meanings_gets_both(nmsim_):
    out = nmsim_("explain", "dram").out
    assert "dram (cause of latency)" in out
    assert "dram (component of energy)" in out


def test_unknown_names_get_the_nearest(refused):
    assert "did you mean latency_s" in refused("explain", "latency_")


@pytest.mark.parametrize("name", [*STAGES, *library.names("workloads/recipes")])
def test_stages_and_recipes_are_explained(nmsim_, name):
    assert "is " in nmsim_("explain", name).out


def test_a_label_that_run_prints_leads_to_its_metric(nmsim_):
    assert "metric throughput_dense_equivalent" in nmsim_("explain", "throughput, dense-equivalent").out


def test_a_recipe_is_explained_with_its_stages_bounds_and_schedule(nmsim_):
    """3 / (2 + 1 / 2) and 3 / (2 + 1 / 8) of a training step, 2 and 8 of an inference."""
    out = nmsim_("explain", "mask_decay").out
    for text in ("FF  ", "BP  ", "WU  ", "3 / (2 + d): 1.20 at 2:4, 1.41 at 1:8", "1 / d: 2.00 at 2:4", "up to 60 %"):
        assert text in out


def test_every_listed_recipe_that_prunes_has_a_bound_above_1(nmsim_):
    """Of a training step where one is sparse; of an inference for those that train dense, or not at all."""
    rows = {row["name"]: row for row in json.loads(nmsim_("list", "recipes", "--json").out)}
    assert [name for name, row in rows.items() if float(row["bound_2:4"]) == 1] == ["dense"]
    of_inference = {name for name, row in rows.items() if row["of"] == "inference"}
    assert of_inference == {
        "inference", "maskllm", "maskllm_joint", "oneshot_magnitude", "oneshot_sparsegpt", "oneshot_wanda", "tasd",
        "tasd_activations",
    }  # fmt: skip
    assert rows["rigl"]["sparse"] == "FF+BP+WU"
