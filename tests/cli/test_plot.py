"""`nmsim plot`: every kind writes its picture; wrong kinds, inputs and options are told what would do."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.cli.plot import KINDS
from nmsim.sweeps.rows import save as write_rows
from nmsim.traces.io import save
from tests.conftest import ROOT
from tests.traces.recordings import recorded

ROWS = """array.rows,bandwidth,pattern,latency_s,accuracy,speedup
8,1,2:4,2.0,0.9,1.5
8,2,2:4,1.5,0.9,1.4
16,1,2:8,1.0,0.8,2.5
16,2,2:8,0.8,0.8,2.4
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, a trace, an array and saved results."""
    from nmsim.cli.main import main

    folder = tmp_path_factory.mktemp("plots")
    (folder / "rows.csv").write_text(ROWS)
    save(recorded(), folder / "run.npz")
    np.save(folder / "w.npy", np.random.default_rng(0).standard_normal((8, 8)))
    np.savez(folder / "two.npz", a=np.eye(8), b=np.eye(8))
    for name, words in (("dense", []), ("sparse", ["--pattern", "2:8"])):
        main(["run", "sat_vcu1525", "resnet9", *words, "-o", str(folder / name), "--no-plots"])
    return folder


CASES = {
    "layers": ["sat_vcu1525", "resnet9", "--pattern", "2:8", "--by", "stage"],
    "energy": ["{}/dense", "{}/sparse"],
    "timeline": ["sat_vcu1525", "resnet9", "--pattern", "2:8"],
    "power": ["sat_vcu1525", "resnet9", "--pattern", "2:8"],
    "roofline": ["sat_vcu1525", "resnet9", "--pattern", "2:8"],
    "speedup": ["sat_vcu1525", "vegeta_like", "resnet9", "--patterns", "2:4,2:8"],
    "pareto": ["{}/rows.csv", "--x", "latency_s", "--y", "accuracy", "--series", "pattern", "--less", "accuracy"],
    "heatmap": [
        "{}/rows.csv",
        "--x",
        "array.rows",
        "--y",
        "bandwidth",
        "--value",
        "latency_s",
        "--where",
        "pattern=2:4",
    ],
    "training": ["{}/run.npz"],
    "mask": ["2:4", "{}/w.npy", "--axis", "0"],
}


def test_every_kind_has_a_case_and_a_line_in_the_docs():
    assert CASES.keys() == KINDS.keys()
    text = (ROOT / "docs" / "plots.md").read_text()
    assert all(f"| `{kind}` |" in text and f"nmsim plot {kind} " in text for kind in KINDS)


def test_rows_of_a_sweep_are_drawn_as_it_wrote_them(nmsim_, folder):
    axes = {"m": [64, 256], "pattern": ["dense", "2:4"]}
    rows = nmsim.sweep({"fixed": {"arch": "sat_vcu1525", "n": 64, "k": 64}, "axes": axes})
    pictures = []
    for suffix in ("npz", "csv"):
        write_rows(rows, folder / f"swept.{suffix}")
        words = ("--x", "latency_s", "--y", "energy_j", "--series", "pattern", "--title", "rows")
        outcome = nmsim_("plot", "pareto", folder / f"swept.{suffix}", *words, "-o", folder / f"{suffix}.png")
        assert outcome.code == 0
        pictures.append((folder / f"{suffix}.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_a_model_that_does_not_fit_is_said(nmsim_, folder):
    """Llama-2 70B in fp16 needs 138 GB; a T4 has 16."""
    outcome = nmsim_("plot", "roofline", "t4", "llama2_70b", "--seq-len", 128, "-o", folder / "large.png")
    assert "llama2_70b does not fit" in outcome.err


def test_numbers_of_where_are_numbers(nmsim_, refused, folder):
    """`8e0` is the value 8 of a column; the axis that is still free is named before what follows from it."""
    words = ("plot", "heatmap", folder / "rows.csv", "--x", "bandwidth", "--y", "pattern", "--value", "latency_s")
    assert nmsim_(*words, "--where", "array.rows=8e0", "-o", folder / "where.png").code == 0
    clash = ("plot", "heatmap", folder / "rows.csv", "--x", "array.rows", "--y", "pattern", "--value", "latency_s")
    assert "these columns differ too: bandwidth, " in refused(*clash, "-o", folder / "never.png")


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_writes_its_picture(nmsim_, folder, kind):
    outcome = nmsim_("plot", kind, *(w.format(folder) for w in CASES[kind]), "-o", folder / f"{kind}.png")
    assert (outcome.code, outcome.out) == (0, "")
    assert (folder / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layer", "a", "b"], "unknown kind of plot 'layer'; did you mean layers"),
        (["layers", "sat_vcu1525"], "takes a machine and a workload with the options of `nmsim run`, not 1 inputs; as"),
        (["layers", "{}/dense", "x"], "not a saved result: name the machine and workload again"),
        (["pareto", "{}/rows.csv", "--x", "latency_s"], "and needs --y; as in: nmsim plot pareto rows.csv"),
        (["pareto", "{}/run.npz", "--x", "a", "--y", "b"], "not written by `nmsim sweep`"),
        (["pareto", "{}/w.npy", "--x", "a", "--y", "b"], "takes rows of a sweep"),
        (["pareto", "{}/none.csv", "--x", "a", "--y", "b"], "and there is no"),
        (["pareto", "{}/rows.csv", "--x", "latency", "--y", "speedup"], "unknown column 'latency'; did you mean"),
        (["heatmap", "{}/rows.csv", "--x", "pattern", "--y", "accuracy", "--value", "speedup"], "rows 0 and 1 both"),
        (
            ["heatmap", "{}/rows.csv", "--x", "a", "--y", "b", "--value", "c", "--where", "pattern=2:5"],
            "did you mean 2:",
        ),
        (["training", "{}/rows.csv"], "takes traces of `nmsim train` (.npz), not"),
        (["training", "{}/two.npz"], "not a trace of nmsim"),
        (["mask", "2:4", "{}/two.npz"], "allowed: a, b"),
        (["mask", "2:4", "{}/run.npz"], "a trace keeps no weights"),
        (["mask", "5:4"], "not a pattern"),
        (["mask", "2:4", "--x", "a"], "--x is for pareto, heatmap; mask takes a pattern"),
        (["roofline", "sat_vcu1525", "resnet9", "--patterns", "2:4"], "--patterns is for speedup"),
        (["speedup", "sat_vcu1525", "resnet9", "--patterns", "2:4,x"], "not a pattern: 'x'"),
        (["energy", "nowhere", "resnet9"], "unknown architecture 'nowhere'"),
    ],
)
def test_what_cannot_be_drawn_is_told_what_would_do(refused, folder, words, message):
    assert message in refused("plot", *(w.format(folder) for w in words), "-o", folder / "never.png")
    assert not (folder / "never.png").exists()


def test_the_name_of_the_picture_says_its_format(refused, nmsim_, folder):
    assert "ends in .png or .svg" in refused("plot", "mask", "2:4", "-o", folder / "mask.pdf")
    assert nmsim_("plot", "mask", "2:4", "-o", folder / "mask.svg", "--seed", "3").code == 0
    assert "<svg" in (folder / "mask.svg").read_text()
