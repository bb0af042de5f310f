"""`nmsim train`, and what other verbs do with training files and traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmsim import library
from nmsim.cli.main import main

CONFIG = """\
kind: training
model: {name: mlp, sizes: {width: 16}}
data: {name: signals, options: {train: 64, test: 32}}
recipe: bdwp
pattern: 2:4
steps: 6
batch: 16
schedule: {name: constant, rate: 0.01}
evaluate_every: 3
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return str(tmp_path / "config.yaml")


def test_train_writes_a_trace_that_verifies_and_runs(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trace = str(tmp_path / "run.npz")
    assert main(["train", config, "-o", trace]) == 0
    printed = capsys.readouterr().out
    assert "test loss" in printed
    assert f"wrote {trace}" in printed
    assert main(["trace", "verify", trace]) == 0
    capsys.readouterr()
    assert main(["run", "sat_vcu1525", trace, "--dtype", "fp16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["info"]["recipe"] == "bdwp"


def test_a_machine_without_the_type_of_the_trace_says_so(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", config, "-o", str(tmp_path / "run.npz"), "--quiet"]) == 0
    assert main(["run", "sat_vcu1525", str(tmp_path / "run.npz")]) == 2
    assert "cannot multiply fp32" in capsys.readouterr().err


def test_seed_and_settings_can_be_replaced(config: str, tmp_path: Path):
    paths = [tmp_path / f"{i}.npz" for i in range(3)]
    for path, more in zip(
        paths, (["--seed", "1"], ["--seed", "1"], ["--seed", "1", "--set", "recipe=srste"]), strict=True
    ):
        assert main(["train", config, "-o", str(path), "--quiet", *more]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recipe: bdpw", "unknown recipe 'bdpw'; did you mean bdwp"),
        ("pattern: 5:4", "not a pattern: 5:4"),
        ("steps: 0", "at least 1"),
        ("batch: -3", "at least 1"),
        ("batsh: 3", "unknown field 'batsh'; did you mean batch"),
        ("precision: fp17", "unknown value 'fp17'"),
        ("model: {name: resnet}", "unknown model 'resnet'"),
    ],
)
def test_mistakes_have_a_message(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    key = line.split(":")[0]
    kept = [x for x in CONFIG.splitlines() if not x.startswith(f"{key}:")]
    (tmp_path / "bad.yaml").write_text("\n".join([*kept, line]))
    assert main(["train", str(tmp_path / "bad.yaml"), "-o", str(tmp_path / "run.npz")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.npz").exists()


def test_a_trace_has_a_name_that_other_verbs_read(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", config, "-o", str(tmp_path / "run.txt")]) == 2
    assert "ends in .npz" in capsys.readouterr().err


def test_a_diverging_run_keeps_the_trace_so_far(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--set", "schedule.rate=1e18", "--set", "steps=50", "--set", "evaluate_every=100"]
    assert main(["train", config, "-o", str(tmp_path / "run.npz"), *arguments]) == 2
    errors = capsys.readouterr().err
    assert "training diverged at step" in errors
    assert "the trace of the" in errors
    assert main(["trace", "show", str(tmp_path / "run.npz")]) == 0


def test_model_options_do_not_suit_a_trace(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trace = str(tmp_path / "run.npz")
    assert main(["train", config, "-o", trace, "--quiet"]) == 0
    assert main(["run", "a100_sxm4_80gb", trace, "--recipe", "bdwp"]) == 2
    assert "--recipe goes with a model" in capsys.readouterr().err


@pytest.mark.parametrize("name", library.names("workloads/training"))
def test_the_training_runs_of_the_library_check(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", name]) == 0
    assert "ok (training" in capsys.readouterr().out
