"""`nmsim run`: tables, JSON, CSV and files of a good run; a message for every bad one."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest

from nmsim.results.metrics import METRICS

BDWP = ("run", "sat_vcu1525", "resnet9", "--recipe", "bdwp", "--pattern", "2:8", "--batch", "4")


def test_the_table_shows_totals_parts_and_assumptions_within_100_columns(nmsim_):
    outcome = nmsim_(*BDWP, "--top", 12)
    assert (outcome.code, outcome.err) == (0, "")
    for text in (
        "SAT on a Xilinx VCU1525 (sat_vcu1525) at 200 MHz, analytic engine",
        "resnet9: training by bdwp 2:8, batch 4, fp16, sgd_momentum",
        "throughput, executed", "throughput, dense-equivalent", "Latency by stage", "Latency by cause",
        "Most expensive layers (12 of", "Products that run dense all the same",
        "first layer", "numbers of the machine without a source",
        "nmsim list assumptions sat_vcu1525",
    ):  # fmt: skip
        assert text in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


@pytest.mark.parametrize(
    "words",
    [
        ("a100_sxm4_40gb", "llama2_7b", "--pattern", "2:4"),
        ("a100_sxm4_40gb", "llama2_7b", "--phase", "decode", "--context", "512"),
        (
            "sat_vcu1525",
            "t5_base",
            "--recipe",
            "bdwp",
            "--pattern",
            "2:8",
            "--seq-len",
            "source=64",
            "--seq-len",
            "target=32",
        ),
        ("h100_sxm5", "mixtral_8x7b", "--seq-len", "256", "--dtype", "bf16", "--top", "3"),
        (
            "sat_vcu1525",
            "resnet50",
            "--recipe",
            "sdgp",
            "--pattern",
            "2:8",
            "--steps",
            "100000",
            "--optimizer",
            "adamw",
        ),
    ],
)
def test_no_table_is_wider_than_100_columns(nmsim_, words):
    outcome = nmsim_("run", *words)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_the_number_of_layers_is_chosen(nmsim_):
    assert "Most expensive layers (3 of" in nmsim_(*BDWP, "--top", 3).out
    assert "Most expensive layers" not in nmsim_(*BDWP, "--top", 0).out


def test_json_parses_and_its_parts_sum_to_the_totals(nmsim_):
    data = json.loads(nmsim_(*BDWP, "--json").out)
    metrics = data["metrics"]
    assert set(metrics) == set(METRICS)
    for by, total in {
        "stage": "latency_s",
        "cause": "latency_s",
        "layer": "latency_s",
        "component": "energy_j",
    }.items():
        assert sum(data["breakdowns"][by].values()) == pytest.approx(metrics[total], rel=1e-9)
    assert sum(op["latency_s"] * op["repeat"] for op in data["ops"]) == pytest.approx(metrics["latency_s"], rel=1e-9)
    assert data["info"]["recipe"] == "bdwp"
    assert data["provenance"]["clock"]["kind"] == "assumed"
    assert data["assumptions"]


def test_csv_has_a_row_per_op(nmsim_):
    rows = list(csv.DictReader(io.StringIO(nmsim_(*BDWP, "--csv").out)))
    data = json.loads(nmsim_(*BDWP, "--json").out)
    assert len(rows) == len(data["ops"])
    total = sum(float(row["latency_s"]) * int(row["repeat"]) for row in rows)
    assert total == pytest.approx(data["metrics"]["latency_s"], rel=1e-9)


def test_a_schedule_that_a_run_cannot_have_is_refused_at_its_line(nmsim_, tmp_path):
    """Step 100 lies before the half of 1000 steps; that only shows when the length of the run is known."""
    path = tmp_path / "late.yaml"
    path.write_text(
        "kind: recipe\nname: late\nprunes: [{stage: FF, operand: weight, direction: in}]\ngradient: ste\n"
        "start: 50 %\nstructure: {kind: stepwise, end: 100}\n"
    )
    outcome = nmsim_("run", "sat_vcu1525", "resnet9", "--recipe", path, "--pattern", "2:8", "--steps", 1000)
    assert outcome.code == 2
    assert f"{path}:6:34: structure.end: is step 100 of 1000, before the start at step 500" in outcome.err


def test_without_a_recipe_it_is_an_inference(nmsim_):
    dense = json.loads(nmsim_("run", "sat_vcu1525", "resnet9", "--json").out)
    sparse = json.loads(nmsim_("run", "sat_vcu1525", "resnet9", "--pattern", "2:8", "--json").out)
    named = json.loads(
        nmsim_("run", "sat_vcu1525", "resnet9", "--recipe", "inference", "--pattern", "2:8", "--json").out
    )
    assert set(dense["breakdowns"]["stage"]) == {"FF", "VECTOR"}
    assert sparse["metrics"] == named["metrics"]
    assert sparse["metrics"]["latency_s"] < dense["metrics"]["latency_s"]


def test_a_number_of_the_machine_can_be_set(nmsim_):
    slow = json.loads(nmsim_(*BDWP, "--set", "clock=100 MHz", "--json").out)
    fast = json.loads(nmsim_(*BDWP, "--set", "clock=200 MHz", "--json").out)
    assert slow["metrics"]["latency_s"] > 1.5 * fast["metrics"]["latency_s"]
    assert slow["provenance"]["clock"] == {"kind": "override", "text": "100 MHz"}


def test_layers_can_be_kept_dense(nmsim_):
    free = json.loads(nmsim_(*BDWP, "--json").out)["metrics"]
    kept = json.loads(nmsim_(*BDWP, "--keep-dense", "*", "--json").out)["metrics"]
    assert kept["macs_executed"] == kept["macs_dense"] > free["macs_executed"]


def test_the_directory_holds_all_files(nmsim_, tmp_path):
    outcome = nmsim_(*BDWP, "-o", tmp_path / "a" / "b")
    assert outcome.code == 0
    assert "wrote result.json, ops.csv, latency.png, roofline.png" in outcome.err
    written = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert written == ["latency.png", "ops.csv", "result.json", "roofline.png"]
    assert (tmp_path / "a" / "b" / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_plots_of_an_earlier_run_do_not_stay_beside_new_figures(nmsim_, tmp_path):
    for name in ("latency.png", "roofline.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    nmsim_(*BDWP, "-o", tmp_path, "--no-plots")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png", "ops.csv", "result.json"]


def test_products_in_csv_run_too(nmsim_, tmp_path):
    (tmp_path / "p.csv").write_text("m,n,k,pattern\n64,64,64,2:4\n")
    outcome = nmsim_("run", "a100_sxm4_40gb", tmp_path / "p.csv")
    assert outcome.code == 0
    assert "MACs, executed" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sat_vcu1524", "resnet9"), "did you mean sat_vcu1525"),
        (("sat_vcu1525", "resnet8"), "unknown workload 'resnet8'; did you mean resnet"),
        (("nowhere.yaml", "resnet9"), "no such file"),
        (("sat_vcu1525", "nowhere.yaml"), "no such file"),
        (("sat_vcu1525", "resnet9", "--recipe", "bwdp", "--pattern", "2:8"), "did you mean bdwp"),
        (("sat_vcu1525", "resnet9", "--recipe", "bdwp"), "bdwp"),
        (("sat_vcu1525", "resnet9", "--pattern", "8:2"), "8:2"),
        (("sat_vcu1525", "resnet9", "--pattern", "0:4"), "0:4"),
        (("sat_vcu1525", "resnet9", "--pattern", "banana"), "banana"),
        (("sat_vcu1525", "resnet9", "--batch", "0"), "must be a whole number of at least 1, not '0'"),
        (("sat_vcu1525", "resnet9", "--batch", "-1"), "must be a whole number of at least 1, not '-1'"),
        (("sat_vcu1525", "resnet9", "--batch", "NaN"), "must be a whole number of at least 1, not 'NaN'"),
        (("sat_vcu1525", "resnet9", "--batch", "1.5"), "must be a whole number of at least 1"),
        (("sat_vcu1525", "resnet9", "--batch", "9" * 5000), "must be a whole number of at least 1"),
        (("sat_vcu1525", "resnet9", "--batch", str(10**12)), "overflow"),
        (("sat_vcu1525", "resnet9", "--batch", str(10**30)), "overflow"),
        (("sat_vcu1525", "resnet9", "--steps", str(10**30)), "overflow"),
        (("sat_vcu1525", "resnet9", "--top", "-1"), "at least 0"),
        (("sat_vcu1525", "resnet9", "--dtype", "fp17"), "fp16"),
        (("sat_vcu1525", "resnet9", "--engine", "analytical"), "analytic"),
        (("sat_vcu1525", "resnet9", "--optimizer", "adam"), "--optimizer goes with a recipe that trains"),
        (("sat_vcu1525", "resnet9", "--recipe", "dense", "--optimizer", "adm"), "did you mean adam"),
        (("sat_vcu1525", "resnet9", "--seq-len", "128"), "no sequence"),
        (("sat_vcu1525", "t5_base", "--seq-len", "sauce=12"), "did you mean source"),
        (("sat_vcu1525", "t5_base", "--seq-len", "5", "--seq-len", "source=12"), "--seq-len takes one number"),
        (("sat_vcu1525", "t5_base", "--seq-len", "source="), "not of the form name=value"),
        (("sat_vcu1525", "resnet9", "--phase", "decode"), "cannot decode"),
        (("sat_vcu1525", "gpt2", "--context", "12"), "context"),
        (("sat_vcu1525", "gpt2", "--phase", "decode", "--recipe", "dense"), "decod"),
        (("sat_vcu1525", "resnet9", "--pattern", "2:8", "--keep-dense", "convolution1"), "convolution1"),
        (("sat_vcu1525", "resnet9", "--recipe", "dense", "--keep-dense", "conv*"), "give one with --pattern"),
        (("sat_vcu1525", "resnet9", "--set", "clock"), "not of the form name=value"),
        (("sat_vcu1525", "resnet9", "--set", "clock=fast"), "clock"),
        (("sat_vcu1525", "resnet9", "--set", "clok=1 GHz"), "clock"),
        (("sat_vcu1525", "resnet9", "--set", "clock=-1 GHz"), "greater than 0"),
        (("a100_sxm4_40gb", "resnet9", "--pattern", "2:8", "--strict", "--dtype", "fp32"), "no sparse mode"),
        (("t4", "resnet9", "--pattern", "2:4", "--strict"), "no mode for 2:4"),
        (("sat_vcu1525", "resnet9", "--json", "--csv"), "not allowed with"),
        (("sat_vcu1525",), "WORKLOAD"),
        (("resnet9", "sat_vcu1525"), "it is among the workloads; did you swap"),
        (("sat_vcu1525", "bdwp"), "unknown workload 'bdwp': it is among the recipes\n"),
        (("", "resnet9"), "must not be empty"),
        (("sat_vcu1525", "resnet9", "--pattern", ""), "must not be empty"),
        (("sat_vcu1525", "resnet9", "-o", ""), "must not be empty"),
        (("sat_vcu1525", "resnet9", "--batch", "٣"), "must be a whole number"),
        (("sat_vcu1525", "resnet9", "--batch", "1_000"), "must be a whole number"),
        (("sat_vcu1525", "resnet9", "--phase", "prefil"), "did you mean prefill"),
        (("sat_vcu1525", "resnet9", "--batch", str(10**30)), "layer 'pool3' of 'resnet9': "),
        (("sat_vcu1525", "resnet9", "--set", "array.dataflows.0=ws"), "write [0] for an entry of a list"),
        (("sat_vcu1525", "resnet9", "--set", "array.dataflows=[os"), "--set array.dataflows=[os: not valid YAML"),
        (("sat_vcu1525", "resnet9", "--set", "memories.c_buffer=1 B"), "(with --set memories.c_buffer=1 B)"),
    ],
)
def test_bad_input_is_refused(refused, words, message):
    assert message in refused("run", *words)


@pytest.mark.parametrize("raw", [b"", b"\x00\xff\x89PNG", b"kind: systolic\n  bad", b"[]", b"kind: tractor\n"])
def test_files_that_are_no_machines_or_models_are_refused(refused, tmp_path, raw):
    (tmp_path / "x.yaml").write_bytes(raw)
    assert str(tmp_path / "x.yaml") in refused("run", tmp_path / "x.yaml", "resnet9")
    assert str(tmp_path / "x.yaml") in refused("run", "sat_vcu1525", tmp_path / "x.yaml")
    assert str(tmp_path) in refused("run", tmp_path, "resnet9")
    assert str(tmp_path) in refused("run", "sat_vcu1525", tmp_path)


def test_nothing_is_written_where_a_file_stands(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "is a file, not a directory" in refused(*BDWP, "-o", directory)
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_written_by_a_run_that_fails(refused, tmp_path):
    refused("run", "sat_vcu1525", "resnet8", "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_a_message(refused, tmp_path, monkeypatch):
    """The disk is full at the second file: the first does not stay."""
    from pathlib import Path

    def full(path, data):
        if ".ops.csv" in path.name:
            raise OSError(28, "No space left on device", str(path))
        with open(path, "wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    message = refused(*BDWP, "-o", tmp_path / "out", "--no-plots")
    assert f"{tmp_path / 'out' / 'ops.csv'}: No space left on device" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_a_message(refused, tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(*BDWP, "-o", tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--pattern", "2:4"), "in a column `pattern`"),
        (("--recipe", "dense"), "--recipe goes with a model"),
        (("--steps", "4"), "--steps goes with a model"),
        (("--batch", "4"), "--batch goes with a model"),
    ],
)
def test_options_of_models_are_refused_for_products(refused, tmp_path, option, message):
    (tmp_path / "p.csv").write_text("m,n,k\n64,64,64\n")
    assert message in refused("run", "a100_sxm4_40gb", tmp_path / "p.csv", *option)


def test_a_folder_does_not_hide_a_name_of_the_library(nmsim_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sat_vcu1525").mkdir()
    (tmp_path / "resnet9").mkdir()
    assert nmsim_("run", "sat_vcu1525", "resnet9").code == 0


def test_a_whole_list_can_be_set(nmsim_):
    both = json.loads(nmsim_(*BDWP, "--json").out)
    one = json.loads(nmsim_(*BDWP, "--set", "array.dataflows=[ws]", "--json").out)
    also = json.loads(nmsim_(*BDWP, "--set", "array.dataflows[0]=ws", "--json").out)
    assert one["metrics"] == also["metrics"] != both["metrics"]


def test_a_model_that_does_not_fit_is_noted(nmsim_, tmp_path):
    """Llama 2 70B has 69 G parameters of 2 bytes, 138 GB; pruned to 2:4 it has about half, which fits into 80 GB."""
    outcome = nmsim_("run", "a100_sxm4_80gb", "llama2_70b", "-o", tmp_path, "--no-plots")
    assert "nmsim: NOTE: llama2_70b does not fit: its weights take at least 138 GB" in outcome.err
    assert "\nNOTE: llama2_70b does not fit" in outcome.out
    assert "has 80 GB of DRAM" in json.loads((tmp_path / "result.json").read_text())["notes"][0]
    assert "NOTE" not in nmsim_("run", "a100_sxm4_80gb", "llama2_70b", "--pattern", "2:4").err
    trained = nmsim_("run", "a100_sxm4_80gb", "llama2_7b", "--recipe", "dense", "--optimizer", "adam", "--json")
    assert "its weights and optimizer state take at least 94.34 GB" in trained.err
    assert json.loads(trained.out)["notes"]


def test_decoding_is_said_as_one_token_and_its_context(nmsim_):
    out = nmsim_("run", "a100_sxm4_40gb", "gpt2", "--phase", "decode", "--context", "300").out
    assert "gpt2: inference, batch 1, 1 token, context 300, fp16" in out


def test_a_reason_has_a_letter_only_if_a_row_carries_it(nmsim_):
    out = nmsim_("run", "sat_vcu1525", "resnet50", "--recipe", "bdwp", "--pattern", "2:8", "--top", "5").out
    assert "first layer" in out
    assert "(a)" not in out
