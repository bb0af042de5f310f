"""`nmsim compare`: two saved results side by side, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json

import pytest

from nmsim.cli.compare import short_names
from nmsim.cli.main import main
from nmsim.results.metrics import METRICS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directories `dense`, `bdwp` and `small` (another batch)."""
    folder = tmp_path_factory.mktemp("saved")
    runs = {"dense": ["4"], "bdwp": ["4", "--recipe", "bdwp", "--pattern", "2:8"], "small": ["2"]}
    for name, (batch, *recipe) in runs.items():
        words = ["--batch", batch, *(recipe or ["--recipe", "dense"]), "--no-plots", "-o", str(folder / name)]
        assert main(["run", "sat_vcu1525", "resnet9", *words, "--json"]) == 0
    return folder


def test_the_speed_up_is_the_ratio_of_the_latencies(nmsim_, saved):
    data = json.loads(nmsim_("compare", saved / "dense", saved / "bdwp", "--json").out)
    latency = data["metrics"]["latency_s"]
    assert data["names"] == ["dense", "bdwp"]
    assert data["speedup"] == pytest.approx(latency["first"] / latency["second"], rel=1e-12)
    assert set(data["metrics"]) == set(METRICS)
    assert set(data["differences"]) == {"recipe", "pattern"}
    for side in ("first", "second"):
        assert sum(stage[side] for stage in data["stages"].values()) == pytest.approx(latency[side], rel=1e-9)
    text = nmsim_("compare", saved / "dense", saved / "bdwp").out
    assert text.rstrip().endswith(f"bdwp is {data['speedup']:.2f}x faster than dense")
    assert max(map(len, text.splitlines())) <= 100
    assert "Note:" not in text


def test_the_other_way_round_it_is_slower(nmsim_, saved):
    assert "dense is 1." in (text := nmsim_("compare", saved / "bdwp", saved / "dense").out)
    assert "x slower than bdwp" in text
    assert "takes as long as" in nmsim_("compare", saved / "dense", saved / "dense").out


def test_runs_that_are_not_alike_are_named(nmsim_, saved):
    assert "Note: the runs differ in batch, not only" in nmsim_("compare", saved / "dense", saved / "small").out


def test_csv_has_a_row_per_figure(nmsim_, saved):
    text = nmsim_("compare", saved / "dense" / "result.json", saved / "bdwp", "--csv").out
    rows = {row["figure"]: row for row in csv.DictReader(io.StringIO(text))}
    assert set(METRICS) < set(rows)
    assert float(rows["latency_s.FF"]["ratio"]) < 1


def test_what_run_prints_as_json_can_be_compared(nmsim_, saved, tmp_path):
    (tmp_path / "r.json").write_text(nmsim_("run", "sat_vcu1525", "resnet9", "--json").out)
    assert nmsim_("compare", tmp_path / "r.json", saved / "dense").code == 0


def test_the_plot_is_written(nmsim_, saved, tmp_path):
    assert nmsim_("compare", saved / "dense", saved / "bdwp", "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_names_tell_the_results_apart(saved):
    assert short_names("x/dense", "x/bdwp") == ("dense", "bdwp")
    assert short_names("x/run", "y/run") == ("x/run", "y/run")
    assert short_names("x", "x") == ("A", "B")


def test_bad_input_is_refused(refused, saved, tmp_path):
    (tmp_path / "cut.json").write_text('{"format": "nmsim result", "sch')
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    assert "cannot be read" in refused("compare", saved / "dense", tmp_path / "nowhere")
    assert "result.json" in refused("compare", saved / "dense", tmp_path / "empty")
    assert "cut off" in refused("compare", tmp_path / "cut.json", saved / "dense")
    assert "not a directory" in refused("compare", saved / "dense", saved / "bdwp", "-o", tmp_path / "file")
    assert "required: B" in refused("compare", saved / "dense")


@pytest.mark.parametrize(
    ("words", "differing"),
    [
        (["gpt2", "--batch", "2"], "batch"),
        (["gpt2", "--seq-len", "64"], "streams"),
        (["gpt2", "--phase", "decode"], "phase"),
        (["gpt2", "--recipe", "dense"], "phase"),
        (["gpt2", "--recipe", "inference", "--steps", "2"], "steps"),
        (["resnet9"], "workload"),
    ],
)
def test_unlike_work_gets_no_speed_up(nmsim_, tmp_path, words, differing):
    nmsim_("run", "a100_sxm4_40gb", "gpt2", "-o", tmp_path / "a", "--no-plots")
    nmsim_("run", "a100_sxm4_40gb", *words, "-o", tmp_path / "b", "--no-plots")
    text = nmsim_("compare", tmp_path / "a", tmp_path / "b").out
    assert "No speed-up: a and b did not do the same work; they differ in" in text
    assert differing in text.splitlines()[-1]
    assert "faster" not in text
    assert "slower" not in text
    data = json.loads(nmsim_("compare", tmp_path / "a", tmp_path / "b", "--json").out)
    assert data["speedup"] is None
    assert differing in data["unlike"]


def test_machines_may_differ(nmsim_, tmp_path):
    for name, arch in (("a", "a100_sxm4_40gb"), ("b", "h100_sxm5")):
        nmsim_("run", arch, "gpt2", "-o", tmp_path / name, "--no-plots")
    text = nmsim_("compare", tmp_path / "a", tmp_path / "b").out
    assert "Note: the runs differ in arch, not only" in text
    assert "faster than a" in text
