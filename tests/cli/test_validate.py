"""`nmsim validate`: tables, files, exit codes."""

from __future__ import annotations

import csv
import io
import json

import pytest

import nmsim
from nmsim.validation.datasets import TABLES
from nmsim.validation.settings import DATA

ARCH = "a100_sxm4_80gb"
NAME = f"own_{ARCH}_fp16_dense"


@pytest.fixture
def measured(tmp_path):
    """A directory whose measurements are predictions, half of them divided by 1.1: errors 0 and 10 %."""
    lines = ["source_key,device,dtype,M,N,K,pattern,time_us,source"]
    for i, size in enumerate((64, 512, 2048, 4096)):
        latency = nmsim.simulate(ARCH, nmsim.gemm(size, size, size)).latency_s
        lines.append(f"own,{ARCH},fp16,{size},{size},{size},dense,{1e6 * latency / (1.1 if i % 2 else 1)!r},a test")
    lines.append("own,Abacus,fp16,8,8,8,dense,1,a test")
    (tmp_path / "measured_gemm.csv").write_text("\n".join(lines))
    (tmp_path / "overheads.yaml").write_text("kind: overheads\noverheads: {}\n")
    return tmp_path


def test_json_has_every_figure(nmsim_, measured):
    outcome = nmsim_("validate", "--data", measured, "--json")
    data = json.loads(outcome.out)
    (found,) = data["sets"]
    assert outcome.code == 0
    assert (found["name"], found["points"], found["arch"]) == (NAME, 4, ARCH)
    assert found["mape"] == pytest.approx(0.05)
    assert found["bias"] == pytest.approx(0.05)
    assert found["median"] == pytest.approx(0.05)
    assert found["p90"] == pytest.approx(0.1)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["worst_error"] == pytest.approx(0.1)
    assert found["worst_line"] in (3, 5)
    assert data["left_out"] == [
        {"file": str(measured / "measured_gemm.csv"), "reason": "no architecture file for 'Abacus'", "rows": 1}
    ]


def test_text_and_csv(nmsim_, measured):
    text = nmsim_("validate", "--data", measured).out
    assert max(map(len, text.splitlines())) <= 100
    for part in (NAME, "5.0", "+5.0", "Worst points", "no architecture file for 'Abacus'", "Together"):
        assert part in text
    (row,) = csv.DictReader(io.StringIO(nmsim_("validate", "own*", "--data", measured, "--csv").out))
    assert float(row["roofline_mape"]) >= 0


@pytest.mark.parametrize(("limit", "code"), [("4.9", 1), ("5.1%", 0)])
def test_status_1_outside_the_tolerance(nmsim_, measured, limit, code):
    outcome = nmsim_("validate", "--data", measured, "--tolerance", limit)
    assert outcome.code == code
    assert ("outside the error" in outcome.out) == bool(code)


def test_files_are_written(nmsim_, measured, tmp_path):
    assert nmsim_("validate", "--data", measured, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "scatter.png").read_bytes().startswith(b"\x89PNG")
    points = list(csv.DictReader((tmp_path / "out" / "points.csv").read_text().splitlines()))
    assert [float(p["error"]) for p in points] == pytest.approx([0, 0.1, 0, 0.1], abs=1e-9)
    assert {p["source"] for p in points} == {"a test"}
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["sets"][0]["name"] == NAME


def test_the_shipped_tables_can_be_scored_as_a_directory(nmsim_, tmp_path):
    for name in TABLES:
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    words = ("validate", "venom*dense", "--json")
    theirs, own = (json.loads(nmsim_(*words, *more).out)["sets"] for more in ((), ("--data", tmp_path)))
    assert [s["mape"] for s in theirs] == pytest.approx([s["mape"] for s in own])
    assert theirs[0]["tolerance"] is not None


def test_status_1_where_nothing_is_scored(nmsim_, measured):
    table = measured / "measured_gemm.csv"
    table.write_text(table.read_text().replace(ARCH, "Abacus"))
    outcome = nmsim_("validate", "--data", measured)
    assert outcome.code == 1
    assert "No point could be scored." in outcome.out


def test_bad_input_is_refused(refused, measured):
    assert "unknown data set 'owm'" in refused("validate", "owm", "--data", measured)
    assert "is not a directory" in refused("validate", "--data", measured / "nowhere")
    assert "must be a number of per cent" in refused("validate", "--tolerance", "-1")
    table = measured / "measured_gemm.csv"
    table.write_text(table.read_text().replace("dense,", "4:2,", 1))
    assert "measured_gemm.csv:2:1: pattern: not a pattern: 4:2" in refused("validate", "--data", measured)
    table.write_text("device,dtype\nx,y\n")
    assert "measured_gemm.csv:1:1: the column 'M' is missing" in refused("validate", "--data", measured)
