"""Quantised weights of whole models, from Python and from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nmsim
from nmsim.cli.main import main
from nmsim.errors import NmsimError
from nmsim.workloads.optable import DTYPES, ROLES, STAGES


def test_weights_alone_change():
    """The products with a weight have it in int4; attention and element-wise rows, activations and sizes stay."""
    plain, work = nmsim.load_workload("gpt2"), nmsim.load_workload("gpt2", weight_dtype="int4")
    weights = work.gemms & (work["b_role"] == ROLES.index("weight"))
    assert weights.any()
    assert (work["b_dtype"][weights] == DTYPES.index("int4")).all()
    for column in plain.columns:
        rows = ~weights if column == "b_dtype" else slice(None)
        np.testing.assert_array_equal(work[column][rows], plain[column][rows])
    assert work.info == {**plain.info, "weight_dtype": "int4"}
    assert (work.weight_group, plain.weight_group) == (0, None)


def test_decoding_reads_a_quarter_of_the_weights():
    """Llama 2 7B at batch 1 on an A100: fp16 against int4 in groups of 128, 4 + 16/128 bits a weight."""
    model = nmsim.load_workload("llama2_7b", decode=True, context=128)
    plain = nmsim.simulate("a100_sxm4_80gb", model)
    quantized = nmsim.simulate("a100_sxm4_80gb", model.quantized("int4", 128))
    weights = model.gemms & (model["b_role"] == ROLES.index("weight"))
    fp16 = plain.columns["dram.b"][weights].sum()
    assert quantized.columns["dram.b"][weights].sum() == fp16 / 4
    assert quantized.columns["dram.metadata"][weights].sum() == fp16 / 2 / 128 * 2
    assert quantized.latency_s < plain.latency_s


def test_command_line(capsys: pytest.CaptureFixture[str]):
    asked = ["run", "a100_sxm4_80gb", "gpt2", "--weight-dtype", "int4", "--weight-group", "128", "--json"]
    assert main(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["info"]["weight_dtype"] == "int4"
    assert printed["info"]["weight_group"] == 128
    expected = nmsim.load_workload("gpt2", weight_dtype="int4", weight_group=128)
    assert printed["metrics"]["latency_s"] == nmsim.simulate("a100_sxm4_80gb", expected).latency_s
    assert any("B in int4 runs in fp16" in line for line in printed["assumptions"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weight-dtype", "int5"], "unknown data type of quantised weights 'int5'; did you mean int"),
        (["--weight-dtype", "fp16"], "allowed: fp8, int4, int8"),
        (["--weight-group", "64"], "give a weight dtype too"),
    ],
)
def test_the_command_line_refuses(options: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "a100_sxm4_80gb", "gpt2", *options]) == 2
    assert message in capsys.readouterr().err


def test_training_keeps_its_weights():
    """One row of a weight gradient is enough."""
    work = nmsim.gemms({"m": [8, 8], "n": [8, 8], "k": [8, 8], "stage": ["FF", "WU"]})
    assert work["stage"].tolist() == [STAGES.index("FF"), STAGES.index("WU")]
    with pytest.raises(NmsimError, match="'gemms' trains; weights can be quantised for an inference only"):
        work.quantized("int8")
    with pytest.raises(NmsimError, match="must be a whole number of at least 1, not 0"):
        nmsim.gemm(8, 8, 8).quantized("int8", 0)


def test_pruned_and_quantised_inference():
    work = nmsim.load_workload("vit_b16").inference("2:4", weight_dtype="int4", weight_group=64)
    assert work.info["weight_dtype"] == "int4"
    pruned = work["b_pattern"] > 0
    assert pruned.any()
    assert (work["b_dtype"][pruned] == DTYPES.index("int4")).all()
    sparse = nmsim.simulate("h100_sxm5", work)
    dense = nmsim.simulate("h100_sxm5", nmsim.load_workload("vit_b16", weight_dtype="int4", weight_group=64))
    assert sparse.latency_s < dense.latency_s
