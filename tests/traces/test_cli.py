"""`nmsim trace`: show a recorded run, check it, and refuse what is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nmsim.cli.main import main
from nmsim.traces.io import save
from nmsim.traces.schema import content_digest
from tests.traces.recordings import recorded


@pytest.fixture(scope="module")
def trace():
    return recorded(steps=12)


@pytest.fixture
def file(trace, tmp_path):
    save(trace, tmp_path / "t.npz")
    return str(tmp_path / "t.npz")


def test_show_tells_what_the_run_did(file, capsys):
    assert main(["trace", "show", file]) == 0
    out = capsys.readouterr().out
    for part in ("bdwp", "Phases", "Executed", "Evaluations (10 of 12)", "Densities", "0.5"):
        assert part in out
    assert max(map(len, out.splitlines())) <= 100


def test_show_as_json_has_every_row(file, trace, capsys):
    assert main(["trace", "show", file, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["digest"] == trace.digest
    assert data["info"]["config"] == {"steps": 5, "layers": [1, 2]}
    assert len(data["evaluations"]) == 12
    by_stage = {row["stage"]: row for row in data["stages"]}
    assert by_stage["FF"]["executed"] == 24
    assert by_stage["FF"]["checks"] == 24
    assert sum(row["macs_dense"] for row in data["stages"]) == trace.executed.macs_dense
    assert {(row["layer"], row["density_mean"]) for row in data["densities"]} == {("a", 0.5), ("b", 0.5)}


def test_a_true_trace_is_ok(file, capsys):
    assert main(["trace", "verify", file]) == 0
    assert capsys.readouterr().out.startswith(f"ok: {file} (12 steps")
    assert main(["trace", "verify", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["broken"] == []


def test_a_broken_law_is_exit_1(trace, tmp_path, capsys):
    bad = replace(trace, info={**trace.info, "recipe": "dense"})
    path = str(tmp_path / "bad.npz")
    save(replace(bad, digest=content_digest(bad)), path)
    assert main(["trace", "verify", path]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: searches: recipe 'dense' prunes nothing, but there is a pattern 2:4"
    assert len(lines) == 2
    assert main(["trace", "verify", path, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize("action", ["show", "verify"])
def test_what_is_no_trace_is_exit_2(tmp_path, capsys, action):
    (tmp_path / "t.npz").write_bytes(b"PK")
    for words in ([str(tmp_path / "t.npz")], [str(tmp_path)], [], ["x", "--jsn"]):
        assert main(["trace", action, *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
